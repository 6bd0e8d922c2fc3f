"""Every number of the diffusion model's stages: its training, its classifier's, sampling; no torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import NotNegative, Positive, Seed, Share, ShareBelowOne, Width
from realnet.diffusion.base_recipe import TrainingRecipe

Size = Literal["full256", "small128", "small64", "quick64", "tiny"]
"""Names of the networks' shapes."""


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe(TrainingRecipe):
    """Training of the diffusion model; the defaults are the paper's on MVTec AD, four GPUs with 5 images."""

    kind: ClassVar[str] = "diffusion"

    pretrained: str | None = "256x256_diffusion.pt"
    head_width: Width = 64
    """Channels of an attention head."""
    accumulate: Positive = 3
    """Batches whose gradients are added up for one update."""
    ema_decay: ShareBelowOne = 0.9999
    """Decay of the average of the weights, which is what is kept."""
    ema_warm_up: bool = False
    """Let the average forget the initial weights: after n updates its decay is at most (1 + n) / (10 + n)."""
    evaluate_every: Positive = 10
    """Epochs between validations, which draw and rebuild training images."""
    validation_batches: Positive = 7
    """Batches of a validation."""
    validation_respacing: str = "ddim20"
    """Steps of its sampling."""
    validation_strengths: Annotated[tuple[NotNegative, ...], Parameter(consume_multiple=True)] = (
        0.0,
        0.1,
        0.2,
    )
    """Strengths that its pictures show."""
    keep_best: bool = True
    """Also keep the model that rebuilds the validation images best, in `model-best`."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        if len(self.validation_strengths) != 3:
            raise BadValue(f"validation_strengths is {self.validation_strengths}; expected three of them")

    @property
    def head_channels(self) -> int:
        """Channels of an attention head."""
        return self.head_width


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe(TrainingRecipe):
    """Training of the classifier; the defaults are the paper's on MVTec AD, two GPUs with 20 images."""

    kind: ClassVar[str] = "classifier"

    pretrained: str | None = "256x256_classifier.pt"
    width: Width = 128
    batch_size: Positive = 40
    chunk_size: Positive = 20
    evaluate_every: Positive = 5
    """Epochs between interim models."""


@dataclass(frozen=True, kw_only=True)
class SampleRecipe(Arithmetic):
    """Drawing the near-normal images; the defaults are the paper's on MVTec AD."""

    dataset: str = "mvtec"
    """Dataset name; for --check, and for the categories of a checkpoint that does not name them."""
    meta_train: Path | None = None
    """JSON lines of the training images, as the authors' train_uni.json; for --check."""
    image_dir: Path | None = None
    """Folder that the paths in the list are relative to. [default: the folder of the list]"""
    diffusion: Path | None = None
    """What realnet-train-diffusion left, or a checkpoint of the authors. [default:
    runs/realnet-diffusion-RECIPE]"""
    classifier: Path | None = None
    """What realnet-train-classifier left, or a checkpoint of the authors. [default:
    runs/realnet-classifier-RECIPE]"""
    guided: Annotated[bool, Parameter(negative=("--no-guided", "--no-classifier"))] = True
    """Draw the samples towards their categories with the classifier's gradient; not done for one category."""
    classifier_scale: NotNegative = 1.0
    """Factor of that gradient."""
    network: Size = "full256"
    """Shape of the networks in checkpoints that do not describe it."""

    strength: Annotated[tuple[NotNegative, ...] | None, Parameter(consume_multiple=True)] = None
    """Strength of the anomalies: a range to draw from, or one value; 0 draws normal images.
    [default: 0.1 0.2; with ddim 0.01 0.03]"""
    strength_per_image: bool = False
    """Draw a strength for each image instead of one for each batch."""
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    """How the noise is removed."""
    eta: Share = 0.0
    """Share of its own noise that the sampler ddim adds."""
    respacing: str = "ddim20"
    """Steps that are taken: ddim20, or 10,15,20 for that many in each third."""
    sample_number: Positive = 256
    """Images per category, rounded up to whole batches. The authors published 10,000."""
    batch_size: Positive = 16
    """Images per batch."""
    seed: Seed = 100
    """Seed of noise and strengths; together with category and batch it decides an image."""
    grey: bool = False
    """Average the three channels of what was drawn, for products whose images are grey."""
    quality: Positive = 75
    """JPEG quality of the files."""
    channels_last: bool = True

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        if self.strength is not None and not (
            len(self.strength) in (1, 2) and self.strength[0] <= self.strength[-1]
        ):
            raise BadValue(
                f"strength is {' '.join(map(str, self.strength))}; expected one value of 0 or more, or the "
                "lowest and the highest"
            )
        if not 1 <= self.quality <= 100:
            raise BadValue(f"quality is {self.quality}; expected 1 to 100")

    @property
    def strengths(self) -> tuple[float, float]:
        """The lowest and the highest strength."""
        # Source: the ranges that the authors' code has for its two samplers.
        given = self.strength or ((0.1, 0.2) if self.sampler == "ddpm" else (0.01, 0.03))
        return given[0], given[-1]


FEW_STEPS: dict[str, Any] = {
    "depth": 1,
    "noise_schedule": "cosine",
    "batch_size": 4,
    "chunk_size": 4,
    "lr": 1e-3,
    "pretrained": None,
}
"""Small networks learn from scratch, in minutes: small batches, a high rate, and the schedule that keeps more
of an image of 64 pixels (arXiv 2102.09672, section 3.2)."""
FEW_STEPS_UNET = FEW_STEPS | {
    "accumulate": 1,
    "ema_decay": 0.995,
    "ema_warm_up": True,  # with 0.9999 the average of 1000 updates would still be mostly the initial weights
    "evaluate_every": 4,
    "validation_batches": 1,
    "head_width": 32,
}
FEW_STEPS_CLASSIFIER = FEW_STEPS | {"batch_size": 8, "chunk_size": 8, "iterations": 200}

SMALL128: dict[str, Any] = {"image_size": 128, "width": 64, "attention_at": (8, 16)}
SMALL64: dict[str, Any] = {"image_size": 64, "width": 64, "attention_at": (4, 8)}
"""300 batches are about five minutes on two CPU cores, and recognisable; with more time give it thousands."""
QUICK64: dict[str, Any] = {"image_size": 64, "width": 32, "attention_at": (8,)}
"""Narrow where the images are large: a step takes a fifth of small64's, and on two CPU cores the many steps
that fit into five minutes are worth more than width."""
TINY: dict[str, Any] = {"image_size": 32, "width": 32, "attention_at": (2, 4)}

UNETS: dict[Size, dict[str, Any]] = {
    "full256": {},  # OpenAI's networks for 256 pixels, which the paper fine-tunes: the recipes' defaults
    "small128": FEW_STEPS_UNET
    | SMALL128
    | {"channel_mult": (1, 1, 2, 2, 3), "head_width": 64, "iterations": 10_000},
    "small64": FEW_STEPS_UNET | SMALL64 | {"channel_mult": (1, 2, 2, 2), "iterations": 300},
    "quick64": FEW_STEPS_UNET | QUICK64 | {"channel_mult": (1, 1, 2, 4), "iterations": 900},
    "tiny": FEW_STEPS_UNET | TINY | {"channel_mult": (1, 2, 2), "iterations": 1000},
}
CLASSIFIERS: dict[Size, dict[str, Any]] = {
    "full256": {},
    "small128": FEW_STEPS_CLASSIFIER | SMALL128 | {"channel_mult": (1, 1, 2, 2, 2)},
    "small64": FEW_STEPS_CLASSIFIER | SMALL64 | {"channel_mult": (1, 1, 2, 2)},
    "quick64": FEW_STEPS_CLASSIFIER | QUICK64 | {"channel_mult": (1, 1, 2, 2)},
    "tiny": FEW_STEPS_CLASSIFIER | TINY | {"width": 64, "channel_mult": (1, 1, 2)},
}

PAPER = ("mvtec", "visa", "mpdd", "btad")
"""Datasets of the paper; what is particular to each is its name alone."""
R = TypeVar("R", DiffusionRecipe, ClassifierRecipe, SampleRecipe)


def _recipes(make: type[R], sizes: Mapping[Size, Mapping[str, Any]], **own: Any) -> dict[str, R]:
    """The paper's recipes, that for own images, and those of the small networks."""
    return {
        **{name: make(dataset=name) for name in PAPER},
        "own": make(dataset="folder", **own),
        **{name: make(**sizes[name]) for name in sizes if name != "full256"},
    }


_FAST: dict[str, Any] = {"precision": "auto", "deterministic": False}
DIFFUSION_RECIPES = _recipes(DiffusionRecipe, UNETS, upright=True, **_FAST)
CLASSIFIER_RECIPES = _recipes(ClassifierRecipe, CLASSIFIERS, upright=True, **_FAST)
SAMPLE_RECIPES = _recipes(SampleRecipe, {name: {"network": name} for name in UNETS}, **_FAST)
