"""Every number of the paper's experiments; no torch here."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import Count, Depth, NotNegative, Positive, Seed, Side, White

Lists = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, show_default=False)]
_LAYERS = Annotated[tuple[Depth, ...], Parameter(consume_multiple=True)]


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    """One experiment; the defaults are the paper's: train on MVTec AD, test on eight other datasets."""

    dataset: str = "mvtec"
    """Auxiliary dataset, with labelled anomalies, to train on; `ad datasets` lists them."""
    test_datasets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (
        *("visa", "elpv/elpv", "ksdd", "aitex", "brain_mri", "head_ct"),
        *("mnist", "mnist/even", "cifar10", "cifar10/animal"),
    )
    """Datasets to test on, never trained on: NAME for its categories, NAME/CATEGORY for one of them."""
    normal_json_path: Lists = ()
    """InCTRL's lists of normal images to train on, instead of `dataset`; go with --outlier-json-path."""
    outlier_json_path: Lists = ()
    """The same of anomalous images."""
    val_normal_json_path: Lists = ()
    """Lists of normal images to test on, instead of `test_datasets`; go with --val-outlier-json-path."""
    val_outlier_json_path: Lists = ()
    """The same of anomalous images."""

    backbone: Annotated[str, Parameter(alias="--model")] = "ViT-B-16-plus-240"
    """Frozen network: an open_clip ViT by name or as a JSON file in open_clip's form, or, vision-only and
    without text, a timm network by its exact tag, `tf_efficientnet_lite0.in1k`."""
    clip_tag: Annotated[str, Parameter(alias="--pretrained")] = "laion400m_e32"
    """Which weights of the CLIP model are meant by --weights pretrained, or expected in a file."""
    layers: _LAYERS = (7, 9, 11)
    """Blocks (of a convolutional network: stages) whose output are the levels of patches; counted from 1."""
    out_stride: Side = 16
    """Pixels per patch of a timm network, to which all its levels are brought; CLIP has its own."""

    image_size: Side = 240
    """Side of the network's input, pixels."""
    fit: Literal["short_side", "stretch"] = "short_side"
    """Resize the shorter side and cut the ends of the longer one, or stretch."""
    rgb: Literal["first", "last"] = "last"
    """Whether images become RGB before or, as in the reference, after the resize."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    white: White | None = None
    """Value of white of images of more than 8 bits, 4095 of a camera of 12; else 65,535."""

    shots: Annotated[tuple[Positive, ...], Parameter(alias="--shot", consume_multiple=True)] = (2, 4, 8)
    """References of each query; one model is trained for each number."""
    reference_seeds: Annotated[tuple[Seed, ...], Parameter(consume_multiple=True)] = (0, 1, 2)
    """Seeds of the draws of references at test time; results are the mean and deviation over them."""
    rotations: Positive = 1
    """Each reference at test time joins this often, turned by equal parts of a whole turn; for objects that
    lie in any direction. Not in the paper."""
    relative: bool = False
    """Judge residuals by those between the references, and by rank, not by place: what is learned so carries
    over to other products. Not in the paper."""
    parts: Annotated[tuple[Literal["text", "image", "patch"], ...], Parameter(consume_multiple=True)] = (
        *("text", "image", "patch"),
    )
    """What the score is made of: the text's prior, residuals of images, residuals of patches."""
    self_reference: bool = True
    """A normal training image may be drawn as its own reference, as in the reference code."""
    batch_order: Literal["reference", "corrected"] = "reference"
    """Which patches and references a query of a training batch gets: `reference` mixes them up between
    queries, as the published checkpoints were trained; tests are always `corrected`."""
    draw_evaluation: bool = True
    """Draw the batches on which the reference evaluates after each epoch, and pass over them, so that the
    training batches are the reference's."""

    epochs: Positive = 10
    """Epochs, of `steps_per_epoch` optimiser steps each."""
    steps_per_epoch: Positive = 100
    """Optimiser steps of an epoch."""
    batch_size: Positive = 16
    """Queries per step, half of them normal, over all processes."""
    seed: Seed = 10
    """Seed of initialisation, order, and references in training."""
    lr: NotNegative = 1e-3
    """Learning rate; constant."""
    weight_decay: NotNegative = 0.01
    """Weight decay of AdamW."""
    gamma: NotNegative = 2.0
    """Exponent of the focal loss."""
    loss_on: Literal["logits", "probabilities"] = "logits"
    """`logits` applies a sigmoid to scores that are probabilities already, as the reference does."""
    select_epoch: Annotated[Positive | None, Parameter(show_default=False)] = 6
    """Epoch whose weights are exported and reported. [default: the paper's 6th; of other data the last]"""

    evaluate_every: Count = 0
    """Epochs between evaluations on the test images; 0: at the end only."""
    test_batch_size: Positive = 16
    """Images per batch at test time."""
    cache_features: bool = True
    """Compute the frozen features of each image once."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        if self.batch_size < 2:
            raise BadValue("batch_size is 1; expected --batch-size 2 or more: normal and anomalous images")
        if self.out_stride > self.image_size:
            raise BadValue(
                f"out_stride is {self.out_stride}; expected at most the side of the images: --out-stride "
                f"{self.image_size}"
            )
        for name in ("shots", "reference_seeds", "layers"):
            if not getattr(self, name):
                raise BadValue(f"{name} is empty; expected one number or more")
        for name in ("shots", "layers"):
            if len(set(given := getattr(self, name))) < len(given):
                raise BadValue(f"{name} are {given}; expected different numbers")
        if self.relative and (self.batch_order != "corrected" or min(self.shots) < 2):
            raise BadValue(
                "relative residuals compare a query's own references with one another; they need "
                "--batch-order corrected and --shots 2 or more"
            )
        if self.relative and self.is_clip:
            raise BadValue(
                "relative residuals read no text: pass --no-relative, or a vision-only network, such as "
                "--backbone tf_efficientnet_lite0.in1k"
            )
        if set(self.parts) <= {"text"} or (self.relative and "patch" not in self.parts):
            needed = "patch" if self.relative else "image or patch"
            raise BadValue(f"parts are {self.parts}; nothing would learn: expected {needed} among them")
        refuse_unpaired(self, "normal_json_path", "outlier_json_path")
        refuse_unpaired(self, "val_normal_json_path", "val_outlier_json_path")

    @property
    def is_clip(self) -> bool:
        """True if the backbone has a text tower."""
        return is_clip(self.backbone)

    @property
    def is_trained_from(self) -> str:
        """The auxiliary dataset, for reports."""
        return "folder" if self.normal_json_path else self.dataset


def is_clip(backbone: str) -> bool:
    """True for a network with a text tower; timm writes all its names in small letters."""
    return "ViT" in backbone or backbone.endswith(".json")


def refuse_unpaired(source: object, normal: str, outlier: str) -> None:
    """Refuse InCTRL's lists of one kind of image without those of the other."""
    if bool(getattr(source, normal)) != bool(getattr(source, outlier)):
        raise BadValue(f"--{normal} and --{outlier} go together; one of them is missing")


MVTEC = Recipe()
VISA = replace(MVTEC, dataset="visa", test_datasets=("mvtec",))
"""How the paper tests on MVTec AD itself."""

OWN = replace(
    MVTEC,
    test_datasets=("folder",),
    fit="stretch",
    rgb="first",
    upright=True,
    shots=(8,),
    self_reference=False,
    batch_order="corrected",
    draw_evaluation=False,
    select_epoch=None,
    precision="auto",
    deterministic=False,
)
"""For data the paper did not use: each query gets its own patches and references, and never itself."""

QUICKSTART = replace(
    OWN,
    dataset="synthetic",
    test_datasets=("elpv/mono",),
    backbone="tf_efficientnet_lite0.in1k",
    layers=(3, 4, 5),
    image_size=160,
    relative=True,
    loss_on="probabilities",
    epochs=3,
)
"""Vision-only: drawn products to train on, real solar cells to test on; sized by its duration alone."""

SMALL = replace(QUICKSTART, test_datasets=("folder",), image_size=256, layers=(3, 4))
"""The same on larger images, for any product and two CPU cores; without the coarsest stage, whose cells are
larger than most defects."""

RECIPES: dict[str, Recipe] = {
    "mvtec": MVTEC,
    "visa": VISA,
    "own": OWN,
    "small": SMALL,
    "quickstart": QUICKSTART,
}

PAPER_DATASETS = (*(name.partition("/")[0] for name in MVTEC.test_datasets), "mvtec")
"""Datasets whose references WinCLIP draws as the reference does, with replacement."""
