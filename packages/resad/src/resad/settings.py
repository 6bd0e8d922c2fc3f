"""The flags of ResAD's commands besides the recipe; none of it changes what a recipe means. No torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.training.settings import SETTINGS_GROUP, EvaluateSettings, FewShotSettings, Names, Settings
from adcommon.types.threshold import RATE
from adcommon.types.values import Depth, Positive, Rate, Seed, Side


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TrainSettings(FewShotSettings, Settings):
    """Where two datasets, references and the authors' files are."""

    train_dataset_dir: Path | None = None
    """Folder of the dataset to train on, as the authors name it. [default: found in data-root]"""
    test_dataset_dir: Path | None = None
    """Folder of the dataset to test on. [default: found in data-root]"""
    train_category: Names = ()
    """Categories to train on; `category` has those to test. [default: all]"""
    test_ref_feature_dir: Path | None = None
    """Reference features from `resad-extract`, one sub-folder per test category."""
    few_shot_dir: Path | None = None
    """Reference images, `CATEGORY/train/good/*`. [default: drawn from the normal training images]"""
    checkpoint_path: Path | None = None
    """Folder of the authors' files: `.pth`, CSV and PNG. [default: checkpoints in the run's folder]"""
    report: bool = False
    """Write a CSV and charts after each evaluation into checkpoint-path."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        if self.test_ref_feature_dir is not None and self.few_shot_dir is not None:
            raise BadValue("--test_ref_feature_dir and --few_shot_dir were both given; use one of them")
        if self.test_dataset_dir is not None and self.data is not None:
            raise BadValue("--test_dataset_dir and --data were both given; use one of them")

    def train_root(self) -> Path:
        """Where the dataset to train on is looked for; `--data` is for the one to test on."""
        return self.train_dataset_dir or Settings(data_root=self.data_root).root()

    def test_root(self) -> Path:
        """Where the dataset to test on is looked for."""
        return self.test_dataset_dir or self.root()

    def checkpoints(self, run: Path) -> Path:
        """The folder of the authors' files; `run` is that of the whole run."""
        return self.checkpoint_path or run / "checkpoints"


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TestSettings(FewShotSettings, EvaluateSettings):
    """What an evaluation takes besides."""

    __test__ = False

    test_dataset_dir: Path | None = None
    """Folder of the dataset, as the authors name it."""
    test_ref_feature_dir: Path | None = None
    """Reference features from `resad-extract`, one sub-folder per category."""
    few_shot_dir: Path | None = None
    """Reference images, `CATEGORY/train/good/*`. [default: drawn from the normal training images]"""
    shots: Annotated[
        tuple[Positive, ...],
        Parameter(alias=("--eval-shots", "--num-ref-shot"), consume_multiple=True, show_default=False),
    ] = ()
    """Reference images of each category. [default: as in training]"""
    reference_seeds: Annotated[tuple[Seed, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Seeds of the draws of references, one evaluation each. [default: as in training]"""
    false_alarm_rate: Rate = RATE
    """Rate at which normal images may be called anomalous by the threshold that the references support."""
    aligned: Path | None = None
    """Folder of `resad-align`: references of each test image's own."""
    pro: bool = False
    """AUPRO in the paper's protocol too."""
    save_maps: Path | None = None
    """Folder for a picture of every test image. [default with --maps: OUT/maps]"""
    backbone: str = "wide_resnet50_2.racm_in1k"
    """Backbone of an authors' `.pth` file, which does not name it; a model folder knows its own."""
    weights: str = "pretrained"
    """Weights of that backbone."""
    image_size: Side = 224
    """Image size of an authors' `.pth` file, pixels."""
    feature_levels: Depth = 3
    """Levels of an authors' `.pth` file with a convolutional backbone."""

    def test_root(self) -> Path:
        """Where the dataset is looked for."""
        return self.test_dataset_dir or self.root()
