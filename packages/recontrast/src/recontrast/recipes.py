"""Every number of the paper's experiments, one constant per script of the authors; no torch here."""

from dataclasses import dataclass, replace
from typing import Literal

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import (
    AboveZero,
    Count,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareBelowOne,
    Side,
    White,
    multiple_near,
)


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    """One experiment; the defaults are the paper's on MVTec AD, one model per category."""

    dataset: str = "mvtec"
    """Dataset name; `ad datasets` lists them."""
    multiclass: bool = False
    """One model for all categories instead of one per category."""

    backbone: str = "wide_resnet50_2.tv_in1k"
    """timm tag of both encoders; any backbone with features at strides 4, 8 and 16."""
    decoder_activation: Literal["relu", "gelu"] = "relu"
    """Activation inside the decoder's blocks; gelu is the exact (erf) form."""
    encoder_norm: Literal["auto", "train", "eval"] = "auto"
    """Batch norm of the trained encoder while training: batch statistics (train), the pretrained ones (eval),
    or train but for the categories in `encoder_norm_eval` (auto)."""
    encoder_norm_eval: tuple[str, ...] = ("toothbrush", "leather", "grid", "tile", "wood", "screw")
    """Categories whose encoder norm is in eval mode under `auto`; the authors chose them by their results."""
    partial_norm: NotNegative | None = None
    """Variance threshold of the PartialNorm in the trained encoder; none: ordinary batch norm."""
    encoder_eps: AboveZero | None = None
    """Epsilon of the trained encoder's norms; none: the backbone's own."""

    image_size: Side = 256
    """Side after the resize, pixels."""
    crop_size: Side | None = None
    """Side of the centre crop, pixels, a multiple of 32; none: as image-size."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; else 65,535."""
    tile: Positive | None = None
    """Side of the squares that photographs are cut into, their own pixels; none: they are looked at whole."""
    overlap: Count | None = None
    """Pixels that neighbouring tiles share at least; none: an eighth of a tile."""
    mask_rule: Literal["nearest", "any", "half"] = "any"
    """When a pixel of a resized mask is anomalous: `any` (the reference's rule) if a bilinear filter touches
    an anomalous pixel, which grows regions; `half` if it gives at least 0.5; `nearest` if the nearest is."""

    iterations: Positive = 2000
    """Optimiser steps."""
    epochs: Count = 0
    """Passes over the training images, if they are done before `iterations`; 0: no such limit."""
    batch_size: Positive = 16
    """Images per step, over all processes."""
    drop_last: bool = False
    """Leave out an epoch's last, smaller batch."""
    seed: Seed = 111
    """Seed of initialisation and order; set anew for each model."""
    decoder_lr: NotNegative = 2e-3
    """Learning rate of bottleneck and decoder."""
    encoder_lr: NotNegative = 1e-5
    """Learning rate of the trained encoder."""
    lr_milestone: NotNegative = 1.0
    """Fraction of the iterations after which the learning rates are multiplied by `lr_factor`."""
    lr_factor: NotNegative = 1.0
    """Factor of the learning rates after the milestone."""
    adam_beta1: ShareBelowOne = 0.9
    """AdamW's decay of the first moment."""
    adam_beta2: ShareBelowOne = 0.999
    """AdamW's decay of the second moment."""
    adam_eps: AboveZero = 1e-8
    """AdamW's epsilon."""
    amsgrad: bool = False
    """AdamW's AMSGrad variant."""
    weight_decay: NotNegative = 1e-5
    """AdamW's decoupled weight decay."""
    encoders: Literal["crossed", "frozen", "trained"] = "crossed"
    """Whose features are rebuilt: each encoder's from the other's, or one encoder's from its own."""
    loss: str = "global"
    """Cosine distance of whole feature maps (`global`), or of each position by itself (`region`), as in
    reverse distillation; or the name of a loss of your own, see docs/reproduce.md."""
    stop_gradient: bool = True
    """Targets get no gradient; False: the trained encoder is also pulled to what the decoder makes of it."""
    mining_factor: Share = 0.0
    """Factor of the gradient where reconstruction is easy; 1: no hard mining."""
    mining_ramp: Share = 0.1
    """Fraction of the iterations over which hard mining grows from none to its strongest."""
    reset_every: Count = 0
    """Iterations between resets of the decoder's and bottleneck's optimiser state; 0: never."""
    encoder_pause: Count = 0
    """Iterations after each reset in which the encoder is not updated."""

    protocol: Literal["standard", "recontrast"] = "recontrast"
    """`recontrast` adds the paper's metrics to the standard ones: masks by `mask_rule`, AUPRO per image."""
    evaluate_every: Positive = 250
    """Steps between evaluations on the test set."""
    test_batch_size: Positive = 16
    """Images per batch at test time. The reference's one-class scripts take 1; the numbers are the same."""
    map_protocol: Literal["sum", "mean"] = "sum"
    """How six distance maps become one: sum, Gaussian of 4 pixels; or mean, 5x5 kernel with a zero border."""
    image_score: Literal["max", "top1", "mean"] = "max"
    """Image score: maximum of the map, mean of its largest 1 %, or mean."""
    calibration_share: ShareBelowOne = 0.0
    """Share of the normal training images kept out of training to choose the decision threshold."""

    cache_features: bool = False
    """Compute the frozen encoder's maps of each training image once; for small networks and images: the
    paper's take 7 MB each."""
    channels_last: bool = True
    sync_batch_norm: bool = False
    """On several GPUs: batch statistics over all of them instead of each one's own."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        side = self.image_size if self.crop_size is None else self.crop_size
        if side > self.image_size:
            raise BadValue(
                f"crop_size is {side}, of images of {self.image_size} pixels; expected at most as many, such "
                f"as --crop-size {max(1, self.image_size // 32) * 32}"
            )
        if side < 32 or side % 32:
            flag = "--image-size" if self.crop_size is None else "--crop-size"
            raise BadValue(
                f"the network's input has sides of {side} pixels ({flag}); expected a multiple of 32, such "
                f"as {flag} {multiple_near(side, 32)}"
            )

    def for_images(self, count: int) -> "Recipe":
        """The recipe with the steps that it takes for so many training images."""
        if not self.epochs:
            return self
        whole, rest = divmod(count, self.batch_size)
        per_epoch = max(1, whole + (rest > 0 and not self.drop_last))
        return replace(self, iterations=min(self.iterations, self.epochs * per_epoch))

    def trains_encoder_norm(self, category: str) -> bool:
        """True if the trained encoder's norms use batch statistics while training on this category."""
        if self.encoder_norm == "auto":
            return category not in self.encoder_norm_eval
        return self.encoder_norm == "train"


MVTEC = Recipe()
VISA = replace(MVTEC, dataset="visa", iterations=3000, encoder_norm_eval=("cashew", "pcb1"))

OCT = replace(
    MVTEC, dataset="oct2017", iterations=1000, batch_size=32, encoder_norm="eval", encoder_norm_eval=()
)
APTOS = replace(OCT, dataset="aptos", encoder_norm="train")
ISIC = replace(APTOS, dataset="isic2018", iterations=2000, crop_size=224, image_score="mean")

MVTEC_MULTICLASS = replace(
    MVTEC,
    multiclass=True,
    decoder_activation="gelu",
    encoder_norm="eval",
    encoder_norm_eval=(),
    iterations=5000,
    drop_last=True,
    seed=1,
    lr_milestone=0.8,
    lr_factor=0.2,
    adam_eps=1e-10,
    amsgrad=True,
    evaluate_every=1000,
    map_protocol="mean",
    image_score="top1",
)
VISA_MULTICLASS = replace(MVTEC_MULTICLASS, dataset="visa")

MVTEC_STABLE = replace(
    MVTEC,
    encoder_norm="train",
    encoder_norm_eval=(),
    partial_norm=5e-4,
    encoder_eps=1e-6,
    drop_last=True,
    adam_eps=1e-10,
    mining_ramp=0.2,
    reset_every=500,
    encoder_pause=99,  # Faithful: the reference's counter of 100 is raised before it is first looked at.
    evaluate_every=500,
    image_score="top1",
)
# Faithful: the authors' VisA script never restarts the counter, so its encoder never rests.
VISA_STABLE = replace(MVTEC_STABLE, dataset="visa", iterations=4000, encoder_pause=0, image_score="max")

OWN = replace(
    MVTEC,
    dataset="folder",
    encoder_norm="eval",
    encoder_norm_eval=(),
    upright=True,
    mask_rule="nearest",
    protocol="standard",
    calibration_share=0.1,
    precision="auto",
    deterministic=False,
)
"""For data the paper did not use: the encoder keeps its pretrained statistics, masks the standard rule."""

QUICKSTART = replace(
    OWN,
    dataset="elpv",
    backbone="tf_efficientnet_lite0.in1k",
    image_size=128,
    iterations=300,
    evaluate_every=1000,
    cache_features=True,
)
"""Solar cells on two CPU cores: a small backbone whose weights are installed, small images."""

SMALL = replace(
    OWN,
    backbone="tf_efficientnet_lite0.in1k",
    image_size=192,
    iterations=2000,
    epochs=60,
    batch_size=8,
    lr_milestone=0.8,
    lr_factor=0.1,
    cache_features=True,
)
"""For two CPU cores: images large enough for a scratch, many small steps, the rate lowered
at the end, so that the last step is like those before it, and no more passes than a few images bear."""

RECIPES: dict[str, Recipe] = {
    "mvtec": MVTEC,
    "visa": VISA,
    "oct": OCT,
    "aptos": APTOS,
    "isic": ISIC,
    "mvtec_multiclass": MVTEC_MULTICLASS,
    "visa_multiclass": VISA_MULTICLASS,
    "mvtec_stable": MVTEC_STABLE,
    "visa_stable": VISA_STABLE,
    "own": OWN,
    "small": SMALL,
    "quickstart": QUICKSTART,
}

_MVTEC = (
    "carpet bottle hazelnut leather cable capsule grid pill "
    "transistor metal_nut screw toothbrush zipper tile wood"
)
_MVTEC_MULTICLASS = (
    "carpet grid leather tile wood bottle cable capsule "
    "hazelnut metal_nut pill screw toothbrush transistor zipper"
)
_MVTEC_STABLE = (
    "carpet cable capsule pill transistor screw toothbrush zipper "
    "tile wood bottle hazelnut leather grid metal_nut"
)
_VISA = "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum"

CATEGORIES: dict[str, tuple[str, ...]] = {
    "mvtec": tuple(_MVTEC.split()),
    "visa": tuple(_VISA.split()),
    "oct": ("OCT2017",),
    "aptos": ("APTOS",),
    "isic": ("ISIC2018",),
    "mvtec_multiclass": tuple(_MVTEC_MULTICLASS.split()),
    "visa_multiclass": tuple(_VISA.split()),
    "mvtec_stable": tuple(_MVTEC_STABLE.split()),
    "visa_stable": tuple(_VISA.split()),
}
"""Categories in the order of the authors' scripts, by recipe name."""
