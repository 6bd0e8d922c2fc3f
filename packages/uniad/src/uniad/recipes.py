"""Every number of the paper's experiments; no torch here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import (
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
    Window,
    both_sides,
    multiple_near,
)

Initialisation = Literal["xavier_uniform", "xavier_normal", "msra_uniform", "msra_normal", "normal"]


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    """One experiment; the defaults are the paper's on MVTec AD, one model for all categories."""

    dataset: str = "mvtec"
    """Dataset name; `ad datasets` lists them."""
    multiclass: Annotated[bool, Parameter(negative=("--no-multiclass", "--separate"))] = True
    """One model for all categories instead of one per category."""
    meta_train: Path | None = None
    """JSON lines of the training images, as the authors' train.json; goes with --meta-test."""
    meta_test: Path | None = None
    """JSON lines of the test images, as the authors' test.json."""
    image_dir: Path | None = None
    """Folder that the paths in the lists are relative to. [default: the folder of the list]"""

    normals: Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Digits of CIFAR-10's normal classes, one model for each: `01234 56789`. [default: the paper's]"""

    backbone: str = "tf_efficientnet_b4.aa_in1k"
    """timm tag of the frozen network."""
    strides: Annotated[tuple[Side, ...], Parameter(consume_multiple=True)] = (2, 4, 8, 16)
    """Strides of its maps that are rebuilt, pixels per cell; the authors' `outlayers`."""
    out_stride: Side = 16
    """Stride of the grid that all maps are brought to."""
    fixed_padding: bool = True
    """Pad EfficientNet B0 to B6 as the reference does, for one resolution; False: for the image at hand."""

    image_size: Side = 224
    """Side after the resize, pixels."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    """Filter of the resize."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; else 65,535."""
    tile: Positive | None = None
    """Side of the squares that photographs are cut into, their own pixels; none: they are looked at whole."""
    overlap: Count | None = None
    """Pixels that neighbouring tiles share at least; none: an eighth of a tile."""
    hflip: bool = False
    """Mirror half of the training images left to right."""
    vflip: bool = False
    """Mirror half of the training images top to bottom."""
    rotate: bool = False
    """Turn training images by 0, 90, 180 or 270 degrees."""
    colorjitter: Share = 0.0
    """Chance of each of four changes of colour of a training image; 0: none."""
    brightness: NotNegative = 0.1
    """Largest change of brightness, as a share."""
    contrast: NotNegative = 0.5
    """Largest change of contrast."""
    saturation: NotNegative = 0.5
    """Largest change of saturation."""
    hue: Share = 0.07
    """Largest change of hue, in turns of the colour circle."""

    whiten: bool = False
    """Rebuild features whose channels are uncorrelated, of one size over normal patches. Not in the paper."""
    hidden_dim: Width = 256
    """Numbers of a token in the transformer."""
    heads: Width = 8
    """Attention heads."""
    encoder_layers: Depth = 4
    """Layers of the encoder."""
    decoder_layers: Depth = 4
    """Layers of the decoder."""
    queries: Literal["layers", "first", "none"] = "layers"
    """Layers of the decoder that ask with learned queries; the others ask with what the layer before says."""
    feedforward: Width = 1024
    """Hidden units of the feed-forward networks."""
    dropout: ShareBelowOne = 0.1
    """Dropout while training."""
    activation: Literal["relu", "gelu"] = "relu"
    """Activation of the feed-forward networks; gelu is the exact form."""
    pre_norm: bool = False
    """Norms before each part of a layer instead of after it."""
    position: Literal["learned", "sine"] = "learned"
    """Position embedding."""
    neighbourhood: tuple[Count, Count] = (7, 7)
    """Height and width around a token, in tokens, that its attention must not see."""
    mask_encoder: bool = True
    """That holds in the encoder."""
    mask_memory: bool = True
    """That holds where the decoder's queries look at the encoder's output."""
    mask_previous: bool = True
    """That holds where they look at the decoder layer before."""
    jitter_scale: NotNegative = 20.0
    """Noise on the features while training; 20 gives each channel a deviation of 20 |token| / channels."""
    jitter_prob: Share = 1.0
    """Share of the training batches that get noise."""
    initialisation: Initialisation = "xavier_uniform"
    """Start values of the linear layers."""
    init_from: Path | None = None
    """Start from the weights of this model folder, or of a checkpoint of the authors."""

    epochs: Positive = 1000
    """Passes over the training images."""
    iterations: Positive | None = None
    """Stop after this many optimiser steps; none: after `epochs`."""
    batch_size: Positive = 8
    """Images per step, over all processes. The authors' run on 8 GPUs has 64, with the same learning rate."""
    accumulate: Positive = 1
    """Parts of a batch that are computed one after the other, in less memory; dropout then draws others."""
    seed: Seed = 133
    """Seed of initialisation, order, noise and dropout."""
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimiser."""
    lr: NotNegative = 1e-4
    """Learning rate."""
    adam_beta1: ShareBelowOne = 0.9
    """Decay of the first moment."""
    adam_beta2: ShareBelowOne = 0.999
    """Decay of the second moment."""
    momentum: ShareBelowOne = 0.0
    """Of SGD."""
    weight_decay: NotNegative = 1e-4
    """Weight decay of every parameter, decoupled under adamw."""
    lr_step: Positive = 800
    """Epochs after which the learning rate is multiplied by `lr_gamma`, again and again."""
    lr_gamma: NotNegative = 0.1
    """Factor of the learning rate."""
    lr_milestone: ShareBelowOne | None = None
    """Multiply it once instead, after this share of `iterations`."""
    clip_norm: NotNegative = 0.1
    """Largest norm of all gradients together; 0: no limit."""
    loss_weight: NotNegative = 1.0
    """Factor of the loss."""

    protocol: Literal["standard", "uniad"] = "uniad"
    """`uniad` adds the paper's columns: AUROC of pixels and of each map's mean, pooled maximum, deviation."""
    reference_auroc: bool = False
    """In the paper's columns, replace an AUROC below 0.5 by one minus it, as the reference does."""
    image_score: Literal["max", "mean", "std"] = "max"
    """Image score: maximum of the map averaged over windows, mean, or standard deviation of the map."""
    pool: Window = (16, 16)
    """Height and width of these windows, pixels, or their side."""
    evaluate_every: Positive = 10
    """Epochs between evaluations on the test set."""
    keep_best: bool = True
    """Also keep the model with the best result on the test set, an oracle, in `model-best`."""
    test_batch_size: Positive = 16
    """Images per batch at test time."""
    calibration_share: ShareBelowOne = 0.0
    """Share of the normal training images kept out of training to choose the decision threshold."""

    cache_features: bool = True
    """Compute the frozen features of each image once; not while an augmentation is on."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        if not self.strides:
            raise BadValue("strides is empty; expected such as 2 4 8 16")
        coarsest = max(*self.strides, self.out_stride)
        if self.image_size < coarsest or self.image_size % coarsest:
            raise BadValue(
                f"image_size is {self.image_size}; expected a multiple of {coarsest} pixels, the coarsest "
                f"stride in use, such as --image-size {multiple_near(self.image_size, coarsest)}"
            )
        if max(self.window) > self.image_size:
            raise BadValue(
                f"pool is {self.pool}; expected at most the side of the images: --pool {self.image_size}"
            )
        unit = self.heads * (2 if self.position == "sine" and self.heads % 2 else 1)
        if self.hidden_dim % unit:
            raise BadValue(
                f"hidden_dim is {self.hidden_dim}; expected a multiple of {unit}, for {self.heads} heads and "
                f"the position embedding {self.position}, such as --hidden-dim "
                f"{multiple_near(self.hidden_dim, unit)}"
            )
        if self.lr_milestone is not None and self.iterations is None:
            raise BadValue("lr_milestone is a share of the steps; it goes with --iterations")
        if self.accumulate > 1 and self.jitter_prob < 1:
            raise BadValue("--accumulate would take --jitter-prob for each part of a batch; leave one out")
        if self.hue > 0.5:
            raise BadValue(f"hue is {self.hue}; expected at most 0.5 turns of the colour circle")
        if (self.meta_train is None) != (self.meta_test is None):
            raise BadValue("--meta-train and --meta-test go together; one of them is missing")

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the windows of the image score."""
        return both_sides(self.pool)

    @property
    def masked(self) -> tuple[bool, bool, bool]:
        """Where attention must not see its neighbourhood: encoder, and the decoder's two attentions."""
        return self.mask_encoder, self.mask_memory, self.mask_previous

    @property
    def augments(self) -> bool:
        """True if training images change from epoch to epoch, so that their features cannot be kept."""
        return self.hflip or self.vflip or self.rotate or self.colorjitter > 0


MVTEC = Recipe()
CIFAR10 = replace(
    MVTEC,
    dataset="cifar10",
    multiclass=False,  # one model per split of five normal classes
    strides=(2, 4, 8, 16, 32),
    interpolation="lanczos",
    batch_size=16,
    seed=131,
    image_score="mean",
)
VISA = replace(MVTEC, dataset="visa")
"""Not in the paper; the benchmark ADer trains UniAD on it."""

OWN = replace(
    MVTEC,
    dataset="folder",
    upright=True,
    epochs=300,
    lr_step=240,
    protocol="standard",
    keep_best=False,
    calibration_share=0.1,
    precision="auto",
    deterministic=False,
)
"""For data the paper did not use: fewer epochs, a decision threshold from normal images."""

QUICKSTART = replace(
    OWN,
    dataset="elpv",
    backbone="tf_efficientnet_lite0.in1k",
    image_size=128,
    encoder_layers=2,
    decoder_layers=2,
    feedforward=256,
    dropout=0.0,
    whiten=True,
    epochs=5,
    lr=1e-3,
    lr_step=3,
    evaluate_every=1000,
)
"""Both kinds of solar cells in one model on two CPU cores: a small backbone whose weights are installed, half
the layers, a quarter of their inner width, whitened features, a high learning rate. Layers, dropout and rate
were chosen on the dataset `synthetic`, the width and the epochs for their time."""

SMALL = replace(
    OWN,
    backbone="tf_efficientnet_lite0.in1k",
    image_size=224,
    whiten=True,
    hidden_dim=128,
    encoder_layers=2,
    decoder_layers=2,
    feedforward=256,
    dropout=0.0,
    iterations=6000,
    lr=1e-3,
    lr_milestone=0.8,
    evaluate_every=25,
)
"""For two CPU cores: the quick start's network on larger images, more steps, the rate lowered at the end."""

RECIPES: dict[str, Recipe] = {
    "mvtec": MVTEC,
    "cifar10": CIFAR10,
    "visa": VISA,
    "own": OWN,
    "small": SMALL,
    "quickstart": QUICKSTART,
}

CIFAR10_SPLITS = ("01234", "56789", "02468", "13579")
"""Normal classes of the paper's four experiments on CIFAR-10."""
