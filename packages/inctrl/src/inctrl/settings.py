"""The flags of InCTRL's commands besides the recipe; they do not change what it means. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.training.settings import SETTINGS_GROUP, EvaluateSettings, FewShotSettings, Names, Settings
from adcommon.types.threshold import RATE
from adcommon.types.values import Depth, Positive, Rate, Seed
from inctrl.recipes import Lists, refuse_unpaired


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TrainSettings(FewShotSettings, Settings):
    """Where training images and references are. `data` and `category` are of what is tested."""

    weights: Annotated[str, Parameter(alias="--clip-weights")] = "pretrained"
    """Weights of the frozen network: `pretrained`, `random` (for trials only), or a file."""
    train_data: Path | None = None
    """A folder of my own images, normal and anomalous, to learn from; short for `--dataset folder`. That of
    --data is compared only."""
    train_category: Names = ()
    """Categories to train on. [default: all]"""
    few_shot_dir: Path | None = None
    """Folder of the authors' few-shot files, CATEGORY.pt. [default: references are drawn]"""

    def train_root(self) -> Path:
        """Where the auxiliary dataset is looked for."""
        return self.train_data or Settings(data_root=self.data_root).root()


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TestSettings(FewShotSettings, EvaluateSettings):
    """What an evaluation takes besides."""

    __test__ = False

    model: Annotated[Path | None, Parameter(alias="--checkpoint")] = None  # type: ignore[assignment]
    """The `model` folder that a training left, or the authors' checkpoint_N.pyth. [default: the one below
    runs/inctrl-*]"""
    dataset: str | None = None
    """Dataset to test on; `ad datasets` lists them. [default: the one that has the categories, else what
    the training tested]"""
    category: Names = ()
    """Categories to test. [default: all of the dataset]"""
    shots: Annotated[Positive | None, Parameter(alias=("--shot", "--prompts"))] = None
    """References of each category. [default: as in training; of a few-shot file, all]"""
    reference_seeds: Annotated[
        tuple[Seed, ...], Parameter(alias=("--prompt-seeds", "--prompt-seed"), consume_multiple=True)
    ] = (0, 1, 2)
    """Seeds of the draws of references, one evaluation each."""
    false_alarm_rate: Rate = RATE
    """Rate at which normal images may be called anomalous by the threshold that the references support."""
    few_shot_dir: Path | None = None
    """Folder of the authors' few-shot files, CATEGORY.pt. [default: references are drawn]"""
    val_normal_json_path: Lists = ()
    """InCTRL's lists of normal test images; go with --val-outlier-json-path."""
    val_outlier_json_path: Lists = ()
    """The same of anomalous ones."""
    normal_json_path: Lists = ()
    """Lists of the normal images that references are drawn from."""
    outlier_json_path: Lists = ()
    """Without effect here; the authors' command lines may have it."""
    backbone: str = "ViT-B-16-plus-240"
    """CLIP model of an authors' checkpoint, which does not name it; a model folder knows its own."""
    layers: Annotated[tuple[Depth, ...], Parameter(consume_multiple=True)] = (7, 9, 11)
    """Its blocks whose patches are read, of an authors' checkpoint only; counted from 1."""
    weights: Annotated[str | None, Parameter(alias="--clip-weights")] = None
    """Weights of the frozen network, where they have moved since the training: a file."""
    output: Path | None = None
    """File for the score of every test image, CSV."""
    save_official: Path | None = None
    """File for the model in the layout of the authors' checkpoints, CLIP included."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        refuse_unpaired(self, "val_normal_json_path", "val_outlier_json_path")

    def find_model(self, root: Path = Path("runs")) -> Path:
        """The model that is named, else the only one of the trainings below `root`.

        Of several, that which was trained with as many references as are asked for.

        Raises:
            BadValue: there is none, or several.
        """
        if self.model is not None:
            return self.model
        found = sorted(root.glob("inctrl-*/*/model"))
        fitting = [path for path in found if path.parent.name == f"{self.shots}-shot"] or found
        if len(fitting) > 1:
            raise BadValue(f"several models: {', '.join(map(str, fitting))}; say which with --model")
        if not fitting:
            raise BadValue(
                f"no model below {root}/inctrl-*; train one with uv run inctrl-train, or pass a model folder "
                "or the authors' checkpoint with --model"
            )
        return fitting[0]
