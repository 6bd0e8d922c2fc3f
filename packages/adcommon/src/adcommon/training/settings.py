"""The flags that mean the same in every command. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from adcommon.data.sources.meaning import Meaning
from adcommon.errors import BadValue, require
from adcommon.io.places import default_root
from adcommon.io.schema import check_fields
from adcommon.training.launch import Launch
from adcommon.training.recipes import refuse_two_datasets
from adcommon.types.arithmetic import Precision
from adcommon.types.values import AboveZero, Metrics, NotNegative, Positive, Rate, Tracker, Workers

SETTINGS_GROUP = Group("Where and how to run", sort_key=1)
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)]
"""Several words after one flag."""


@dataclass(frozen=True, kw_only=True)
class _OnImages:
    """What trainings and evaluations take alike."""

    data_root: Path | None = None
    """Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]"""
    data: Path | None = None
    """A folder of my own images; short for `--dataset folder --data-root DIR`."""
    good: Names = ()
    """Folders of normal images among my own, by name or path, where their names do not say it."""
    bad: Names = ()
    """Folders of anomalous ones."""
    masks: Names = ()
    """Folders of masks."""
    gpu: str | None = None
    """Number of the GPU, or `cpu`. [default: the first GPU if there is one]"""
    device: str | None = None
    """Device by its torch name: cpu, cuda:1, mps."""
    workers: Annotated[Workers | None, Parameter(show_default=False)] = None
    """Processes that load images; 0 loads in this process. [default: 0; beside a GPU one per core but one, at
    most 8]"""
    cache: bool = True
    """Keep decoded, resized images on disk, so that each is decoded once."""
    maps: bool = False
    """Write a picture of every test image's anomaly map."""
    eval_size: Literal["map", "original"] = "map"
    """Size of the standard pixel metrics: the network's input, or each image's own."""
    metrics: Metrics = "exact"
    """Pixel metrics `exact`, with all maps of a category in memory, or `bounded`, with a batch of them there
    and each value in an interval that certainly holds the exact one."""
    note: Annotated[str | None, Parameter(show_default=False)] = None
    """Words of my own, which stand with every row of the results."""
    max_megapixels: Annotated[Positive | None, Parameter(show_default=False)] = None
    """Largest picture that is decoded, in millions of pixels. [default: $AD_MAX_MEGAPIXELS, else 100]"""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later; the largest picture holds for the process from now on."""
        check_fields(self)
        if self.max_megapixels is not None:
            from adcommon.io.decoding import allow_megapixels

            allow_megapixels(self.max_megapixels)
        if self.gpu is not None and self.device is not None:
            raise BadValue("--gpu and --device were both given; use one of them")

    def root(self) -> Path:
        """The folder where datasets are looked for."""
        return self.data or self.data_root or default_root()

    def meaning(self) -> Meaning:
        """What is said of the folders of images of one's own."""
        return Meaning(self.good, self.bad, self.masks)


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(_OnImages):
    """What trainings and evaluations of few-shot methods take besides."""

    feature_memory: NotNegative = 4.0
    """Gigabytes of frozen features kept in memory; others are read from a cache or computed again."""

    def memory_bytes(self) -> int:
        """Of frozen features, all together."""
        return int(self.feature_memory * 2**30)


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Settings(_OnImages):
    """What every training command takes besides its recipe; none of it changes the numbers."""

    category: Names = ()
    """Categories to run. [default: all]"""
    out: Path | None = None
    """Folder for everything the run leaves behind. [default: save-dir/save-name]"""
    save_dir: Path = Path("runs")
    """Parent of the run's folder, as the papers' scripts name it."""
    save_name: str | None = None
    """Name of the run's folder. [default: the command's name]"""
    weights: str = "pretrained"
    """Backbone weights: `pretrained`, `random` (for trials only), or a file."""
    resume: bool = False
    """Continue a run that was stopped or killed, from its last saved state."""
    force: bool = False
    """Overwrite the run's folder."""
    save_every: Annotated[Positive | None, Parameter(show_default=False)] = None
    """Steps between saved states for `--resume`. [default: every evaluation]"""
    minutes: Annotated[AboveZero | None, Parameter(show_default=False)] = None
    """End the training of a model after so long, whatever step it has reached, and evaluate that.
    [default: all steps]"""
    false_alarm_rate: Rate = 0.05
    """Rate at which the stored decision threshold may call a normal image anomalous."""
    track: Tracker = "none"
    """Also write metrics.csv and the results for TensorBoard, MLflow or Weights & Biases, below `out`."""
    profile: bool = False
    """Write a trace of 20 steps to trace.json.gz beside the model: what the CPU and the GPU did, and when."""
    launch: Launch = Launch()  # noqa: RUF009 - frozen
    """Where the models of several categories are trained, if not here one after the other."""
    job: Annotated[str | None, Parameter(show=False)] = None
    """The only job of this process, whose folder is `out`; another process does all else."""
    given: Annotated[tuple[str, ...], Parameter(parse=False)] = ()
    """Fields that the user named; others of the recipe may be made to fit its backbone."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        if self.track != "none":
            require(self.track, self.track)
        if self.resume and self.force:
            raise BadValue("--resume keeps the run's folder and --force empties it; use one of them")

    def folder(self, name: str) -> Path:
        """The run's folder; `name` is the command's."""
        return self.out or self.save_dir / (self.save_name or name)

    def as_flags(self) -> dict[str, Any]:
        """The values to write down with a run, by flag name; not how it was to be continued."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and name not in ("resume", "force", "launch", "job", "given")
        }


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(_OnImages):
    """What every evaluation of a trained model takes."""

    model: Annotated[Path, Parameter(alias="--checkpoint")]
    """The `model` folder that a training run left."""
    dataset: str | None = None
    """Dataset name; `ad datasets` lists them. [default: the one the model was trained on]"""
    category: Names = ()
    """Categories to evaluate. [default: those the model was trained on]"""
    out: Path = Path("evaluation")
    """Folder for results.json, tables and pictures."""
    batch_size: Positive = 16
    """Images per batch."""
    precision: Precision | None = None
    """Arithmetic of the networks. [default: as the model was trained]"""
    compile: bool = False
    """Let torch.compile make the networks faster: minutes before the first image."""
    force: bool = False
    """Overwrite an evaluation in `out`."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        refuse_two_datasets(self.dataset, self.data)
