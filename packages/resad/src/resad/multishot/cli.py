"""The small commands: extraction, both plots, alignment. Torch is imported when one runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from adcommon.cli.app import command
from adcommon.data.catalog import DATASETS
from adcommon.data.lists.fewshot import draw_references
from adcommon.errors import BadValue
from adcommon.training.logging import start_logging
from adcommon.training.settings import Names, Settings
from adcommon.types.records import Split
from adcommon.types.values import Positive, Seed, Share, Side
from resad.recipes import ALIASES, IMAGEBIND_TAG, RECIPES

Several = Parameter(consume_multiple=True, negative_iterable=())
CHECKPOINTS = Path("runs/resad-multishot/checkpoints")
"""Where `resad-multishot` leaves the authors' files."""


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Source:
    """The images that a command encodes, and where it does so."""

    dataset: str = "mvtec"
    """Dataset name; `ad datasets` lists them."""
    category: Names = ()
    """Categories. [default: all]"""
    data_root: Path | None = None
    """Folder that holds the datasets. [default: $AD_DATA, else ./data]"""
    weights: str = "pretrained"
    """Backbone weights: `pretrained`, `random` (for trials only), or a file."""
    batch_size: Positive = 8
    """Images per pass."""
    gpu: str | None = None
    """Number of the GPU, or `cpu`. [default: the first GPU if there is one]"""
    device: str | None = None
    """Device by its torch name: cpu, cuda:1, mps."""

    @property
    def name(self) -> str:
        """Of the dataset in the catalogue."""
        return ALIASES.get(self.dataset, self.dataset)

    def splits(self) -> dict[str, Split]:
        """The dataset's images by category."""
        from adcommon.data import load_splits

        return load_splits(self.name, Settings(data_root=self.data_root).root(), self.category)


def extract() -> None:
    """`resad-extract`: reference features of a dataset, written once."""
    command("resad-extract", _extract)


def plot_shots() -> None:
    """`resad-plot-shots`: AUROC against the number of references."""
    command("resad-plot-shots", _plot_shots)


def plot_classes() -> None:
    """`resad-plot-classes`: one metric of every category, the worst in red."""
    command("resad-plot-classes", _plot_classes)


def align() -> None:
    """`resad-align`: for each test image the training images that look most like it."""
    command("resad-align", _align)


def _extract(
    *,
    source: Source = Source(),
    few_shot_dir: Path | None = None,
    save_dir: Path = Path("ref_features/w50/mvtec_4shot"),
    shots: Positive | None = None,
    published: Positive | None = None,
    seed: Seed = 0,
    backbone: str = "wide_resnet50_2.racm_in1k",
    image_size: Side = 224,
    fit: Literal["short_side", "stretch"] = "short_side",
    upright: bool = False,
) -> None:
    """Encode normal reference images of a dataset and write their features.

    Args:
        few_shot_dir: Folder of images, CATEGORY/train/good/*. [default: 4shot/DATASET]
        save_dir: Gets a folder per category with layer1.npy, layer2.npy, ...
        shots: Draw so many of the dataset's normal training images instead.
        published: Take the authors' own 4 or 8 references, found by name in the dataset, instead.
        seed: Of the draw.
        backbone: timm tag, or imagebind.
        image_size: Side of the network's input, pixels.
        fit: As the model that compares with them: its authors' is `short_side`, that of own images `stretch`.
        upright: Apply the photographs' EXIF orientation, as a model of own images does.
    """
    from adcommon.models.devices import choose_device
    from resad.backbone import build_backbone, make_preprocess
    from resad.multishot import extract

    if sum(given is not None for given in (few_shot_dir, shots, published)) > 1:
        raise BadValue("--few_shot_dir, --shots and --published name different references; use one of them")
    start_logging(None)
    base = RECIPES["imagebind" if backbone == IMAGEBIND_TAG else "paper"]
    recipe = replace(base, backbone=backbone, image_size=image_size, fit=fit, upright=upright)
    if published is not None:
        images = extract.published(source.name, published, source.splits())
    elif shots is not None:
        splits = source.splits()
        images = {name: draw_references(split.train, shots, seed=seed) for name, split in splits.items()}
    else:
        folder = few_shot_dir or Path("4shot") / source.dataset
        known = DATASETS[source.name].categories if source.name in DATASETS else ()
        images = extract.from_few_shot_folder(folder, source.category or known)
    trunk = build_backbone(recipe, source.weights, choose_device(source.gpu, source.device))
    preprocess = make_preprocess(recipe)
    for line in extract.extract(images, save_dir, trunk, preprocess, recipe, batch_size=source.batch_size):
        print(line)
    print(f"features of {len(images)} categories are in {save_dir}")


def _plot_shots(
    *,
    checkpoints: Annotated[tuple[Path, ...], Several] = (CHECKPOINTS,),
    setting: Annotated[tuple[str, ...], Several] = ("mvtec_to_visa",),
    shots: Annotated[tuple[Positive, ...], Several] = (2, 4, 6, 8),
    out: Path = Path("shots_vs_auroc.png"),
    ymin: Share | None = None,
    show: bool = False,
) -> None:
    """Plot AUROC against the number of references; the numbers go beside it as CSV.

    Args:
        checkpoints: Folders that resad-multishot wrote; several are samples of one experiment.
        setting: Settings to draw, each in its colour.
        shots: Numbers of references.
        out: The PNG.
        ymin: Where the y axis begins. [default: 0.75, or below the lowest value]
        show: Open the picture.
    """
    from resad.multishot.analysis import plot_shots

    start_logging(None)
    plot_shots(checkpoints, setting, shots, out, ymin)
    _done(out, show)


def _plot_classes(
    *,
    csv: Path = CHECKPOINTS / "mvtec_to_visa_4shot/mvtec_to_visa_4shot_epoch19_metrics.csv",
    metric: str = "Pixel AUC",
    worst: Positive = 3,
    title: str | None = None,
    out: Path = Path("visa_classwise_auroc.png"),
    show: bool = False,
) -> None:
    """Plot one metric of every category, the worst ones in red; the order goes beside it as CSV.

    Args:
        csv: Table that resad-multishot or resad-train --report wrote.
        metric: Its column.
        worst: How many categories are highlighted.
        title: Of the plot. [default: metric and table]
        out: The PNG.
        show: Open the picture.
    """
    from resad.multishot.analysis import plot_classes

    start_logging(None)
    lowest = plot_classes(
        csv, metric, worst, out, title or f"{metric} per category: {csv.stem}", f"{metric} (fraction)"
    )
    print(f"lowest {metric}: {', '.join(reversed(lowest))}")
    _done(out, show)


def _align(
    *,
    source: Source = Source(),
    out: Path = Path("references"),
    count: Positive = 10,
    backbone: str = "densenet201.tv_in1k",
    image_size: Side = 320,
) -> None:
    """Choose for each test image the training images that look most like it, by bags of visual words.

    Args:
        out: Folder for centers/ and indicesCOUNT/; the latter is for resad-evaluate --aligned.
        count: Training images per test image.
        backbone: timm tag of the words' features, at stride 4.
        image_size: Side of its input, pixels.
    """
    from adcommon.models.devices import choose_device
    from resad.multishot.alignment import align

    start_logging(None)
    folder = align(
        source.name,
        source.splits(),
        out,
        count=count,
        backbone=backbone,
        weights=source.weights,
        image_size=image_size,
        batch_size=source.batch_size,
        device=choose_device(source.gpu, source.device),
    )
    print(f"the choice is in {folder}; use it with resad-evaluate --aligned {folder}")


def _done(picture: Path, show: bool) -> None:
    print(f"drew {picture} and wrote {picture.with_suffix('.csv')}")
    if show:
        from PIL import Image

        with Image.open(picture, formats=("PNG",)) as image:
            image.show()
