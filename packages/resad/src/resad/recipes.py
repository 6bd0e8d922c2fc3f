"""Every number of the paper's experiments and of the multi-shot extension; no torch here."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import (
    AboveZero,
    Count,
    Depth,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareBelowOne,
    Side,
    White,
    Width,
    multiple_near,
)

IMAGEBIND_TAG = "imagebind"
STRIDES = (4, 8, 16, 32)
"""Of the levels of a convolutional backbone, finest first."""
FOLDER = "folder"
ALIASES = {"mvtec3d": "mvtec_3d", "mvtecloco": "mvtec_loco"}
"""Datasets whose name in the authors' settings is not that of the catalogue."""
SETTINGS = (
    "visa_to_mvtec",
    *(f"mvtec_to_{name}" for name in ("visa", "btad", "mvtec3d", "mpdd", "mvtecloco", "brats")),
)
"""The authors' seven settings; any other pair of datasets of the catalogue works too."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    """One experiment; the defaults are the authors' with a Wide-ResNet-50-2."""

    setting: str = "visa_to_mvtec"
    """`TRAIN_to_TEST`: any two names of `ad datasets`; the authors' short forms (mvtec3d, mvtecloco) too."""
    shots: Annotated[
        tuple[Positive, ...], Parameter(alias=("--eval-shots", "--num-ref-shot"), consume_multiple=True)
    ] = (4,)
    """Reference images of each test category; several numbers are evaluated one after the other."""
    reference_seeds: Annotated[tuple[Seed, ...], Parameter(consume_multiple=True)] = (0,)
    """Seeds of the draws of test references where no files or folder name them; one evaluation per draw."""
    rotations: Positive = 1
    """Each test reference joins this often, turned by equal parts of a whole turn; for objects that lie in
    any direction. Not in the paper."""
    exclude_refs: bool = True
    """Leave out of the test what serves as a reference."""

    backbone: str = "wide_resnet50_2.racm_in1k"
    """timm tag with features at strides 4, 8 and 16, or `imagebind`."""
    feature_levels: Depth = 3
    """Levels used, finest first; ImageBind has four of one stride."""
    image_size: Side = 224
    """Side of the network's input, pixels."""
    fit: Literal["short_side", "stretch"] = "short_side"
    """Resize the shorter side and cut the ends of the longer one, or stretch."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; else 65,535."""
    residual: Literal["square", "subtract", "none"] = "square"
    """(f - p)^2 as in the authors' code for convolutional backbones, f - p as in the paper's text, or f."""
    constraint: Literal["full", "normal", "none"] = "full"
    """What the constraintor learns: to draw normal rows into a shell and to keep anomalous ones as they are,
    or the former alone; with `none` the flows see the residuals themselves."""

    scale_residuals: bool = False
    """Divide each level's residuals by the variance (of differences: by the deviation) of its features on
    normal training images, for backbones whose features are not of a ResNet's size."""
    num_embeddings: Width = 1536
    """Codes of the vector quantiser, per level."""
    fdm_alpha: Share = 0.4
    """At test time the residuals' distribution moves 1 - `fdm_alpha` of the way to the quantised ones'."""
    flow_arch: Literal["conditional_flow_model", "flow_model"] = "conditional_flow_model"
    """With or without a position code."""
    coupling_layers: Depth = 10
    """Coupling blocks of each level's flow."""
    clamp_alpha: AboveZero = 1.9
    """Largest |log scale| of a coupling block."""
    pos_embed_dim: Width = 256
    """Channels of the position code, a multiple of 4."""

    epochs: Positive = 100
    """Passes over the training images, both stages together."""
    first_stage_epochs: Count = 10
    """Epochs with normal images only; afterwards the training dataset's test images join, with masks."""
    batch_size: Positive = 32
    """Images per step, over all processes."""
    flow_batch: Positive = 8192
    """Rows per step of a flow; an incomplete last block is dropped. 8192 is the authors', with which the
    coarsest level never trains at 224 pixels and 32 images; 4096 trains it."""
    lr: NotNegative = 1e-5
    """Learning rate of all three optimisers."""
    weight_decay: NotNegative = 5e-4
    """L2 term in the gradient."""
    lr_milestones: Annotated[tuple[Count, ...], Parameter(consume_multiple=True)] = (70, 90)
    """Epochs after which the learning rates fall to a tenth."""
    legacy_zero_grad: bool = False
    """Zero gradients instead of dropping them, as torch before 2.0: a flow's step then moves all flows."""
    pos_beta: ShareBelowOne = 0.05
    """Quantile of the normal log-likelihoods that is their boundary."""
    margin_tau: NotNegative = 0.1
    """Distance between the boundaries of normal and anomalous rows."""
    bgspp_lambda: NotNegative = 1.0
    """Weight of the boundary losses; ImageBind's is always 1."""
    train_ref_shot: Positive = 4
    """Reference images drawn for each category of a batch."""
    reference_replacement: bool = True
    """Draw training references with replacement, as the authors do."""
    exclude_query: bool = False
    """No image of a batch is its own reference, as long as enough others are there."""
    reference_pool: Literal["auto", "train", "normal"] = "auto"
    """Training references are drawn from the normal training images, or from all normal ones; `auto` is
    `normal` for VisA, as the authors do, else `train`."""
    seed: Seed = 42
    """Of initialisation, order, and training references."""

    eval_freq: Count = 1
    """Epochs between evaluations; 0: only after the last."""
    select: Literal["image_auroc", "pixel_auroc"] = "pixel_auroc"
    """Which mean of the merged scores decides when the authors' `_checkpoints.pth` is rewritten; it is read
    from test images, so nothing else uses that file."""
    pro: bool = False
    """AUPRO in the paper's protocol; the authors have switched it off and write -1."""
    protocol: Literal["standard", "resad"] = "resad"
    """`resad` adds the paper's rows: score maps scaled by constants taken from a category's test images."""
    test_batch_size: Positive = 16
    """Images per batch at test time."""
    channels_last: bool = True

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        split_setting(self.setting)
        check_fields(self)
        if not self.shots or len(set(self.shots)) < len(self.shots):
            raise BadValue(f"shots are {self.shots}; expected different numbers of at least 1")
        if not self.reference_seeds:
            raise BadValue("reference_seeds is empty; expected at least one seed")
        if self.conditional and self.pos_embed_dim % 4:
            raise BadValue(
                f"pos_embed_dim is {self.pos_embed_dim}; expected a multiple of 4, such as --pos-embed-dim "
                f"{multiple_near(self.pos_embed_dim, 4)}"
            )
        if self.is_imagebind and (self.feature_levels != 4 or self.image_size != 224):
            raise BadValue(
                f"imagebind with {self.feature_levels} levels of {self.image_size} pixels; it has 4 levels "
                "and takes 224 pixels (start from --recipe imagebind)"
            )
        if not self.is_imagebind and self.feature_levels > len(STRIDES):
            raise BadValue(
                f"feature_levels is {self.feature_levels}; expected at most --feature-levels {len(STRIDES)}"
            )

    @property
    def is_imagebind(self) -> bool:
        """True for the variant with tokens instead of convolutional maps."""
        return self.backbone == IMAGEBIND_TAG

    @property
    def conditional(self) -> bool:
        """True if the flows see positions."""
        return self.flow_arch == "conditional_flow_model"

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each convolutional level."""
        return STRIDES[: self.feature_levels]

    @property
    def train_dataset(self) -> str:
        """Name in the catalogue of the auxiliary dataset."""
        return split_setting(self.setting)[0]

    @property
    def test_dataset(self) -> str:
        """Name in the catalogue of the dataset of unseen categories."""
        return split_setting(self.setting)[1]

    def tested_on(self, dataset: str) -> "Recipe":
        """The same recipe with another dataset of unseen categories."""
        return replace(self, setting=f"{self.setting.partition('_to_')[0]}_to_{dataset}")

    def evaluates_after(self, epoch: int) -> bool:
        """True if unseen categories are tested after this epoch; the last one's test is not counted."""
        return 0 < self.eval_freq and (epoch + 1) % self.eval_freq == 0 and epoch + 1 < self.epochs


def split_setting(setting: str) -> tuple[str, str]:
    """The two datasets' names in the catalogue.

    >>> split_setting("mvtec_to_mvtec3d")
    ('mvtec', 'mvtec_3d')
    """
    train, found, test = setting.partition("_to_")
    if not (train and found and test):
        raise BadValue(
            f"setting is '{setting}'; expected TRAIN_to_TEST, such as synthetic_to_elpv or "
            + ", ".join(SETTINGS)
        )
    return ALIASES.get(train, train), ALIASES.get(test, test)


PAPER = Recipe()
IMAGEBIND = replace(
    PAPER,
    backbone=IMAGEBIND_TAG,
    feature_levels=4,
    residual="subtract",
    flow_arch="flow_model",
    coupling_layers=4,
    first_stage_epochs=1,
    precision="tf32",
    channels_last=False,
)
MULTISHOT = replace(
    PAPER, setting="mvtec_to_visa", shots=(2, 4, 6, 8), epochs=20, train_ref_shot=8, flow_batch=4096
)

OWN = replace(
    PAPER,
    setting="synthetic_to_folder",
    fit="stretch",
    upright=True,
    residual="subtract",
    scale_residuals=True,
    epochs=20,
    first_stage_epochs=5,
    flow_batch=4096,
    lr_milestones=(14, 18),
    reference_replacement=False,
    reference_pool="train",
    eval_freq=0,
    precision="auto",
    deterministic=False,
)
"""For data the paper did not use: every level trains, a batch's references differ from each other, residuals
are differences as in the paper's text, so that a perfect match lies in the middle of the normal ones."""

QUICKSTART = replace(
    OWN,
    setting="synthetic_to_elpv",
    backbone="tf_efficientnet_lite0.in1k",
    image_size=128,
    coupling_layers=6,
    pos_embed_dim=64,
    num_embeddings=256,
    epochs=2,
    first_stage_epochs=1,
    flow_batch=2048,
    lr_milestones=(),
    shots=(2, 4, 6, 8),
    protocol="standard",
)
"""Trained on drawn products, tested on solar cells: a small backbone whose weights are installed."""

SMALL = replace(QUICKSTART, setting="synthetic_to_folder", image_size=192, shots=(8,))
"""The same on larger images, for any product and two CPU cores."""

RECIPES: dict[str, Recipe] = {
    "paper": PAPER,
    "paper_all": replace(PAPER, shots=(2, 4, 8)),
    "imagebind": IMAGEBIND,
    "imagebind_own": replace(
        IMAGEBIND,
        setting=OWN.setting,
        fit=OWN.fit,
        upright=OWN.upright,
        precision=OWN.precision,
        deterministic=OWN.deterministic,
    ),
    "imagebind_all": replace(IMAGEBIND, shots=(2, 4, 8)),
    "multishot": MULTISHOT,
    "own": OWN,
    "small": SMALL,
    "quickstart": QUICKSTART,
}
