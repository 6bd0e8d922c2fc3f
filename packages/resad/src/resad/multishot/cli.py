"""The small commands: extraction, both plots, alignment. Torch is imported when one runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from adcommon.cli.app import execute
from adcommon.errors import BadValue
from adcommon.training.logging import start_logging
from adcommon.training.settings import Settings
from resad.recipes import ALIASES, CATEGORIES, IMAGEBIND_TAG, RECIPES

Several = Parameter(consume_multiple=True, negative_iterable=())


def extract() -> None:
    """`resad-extract`: reference features of a dataset, written once."""
    _execute("resad-extract", _extract)


def plot_shots() -> None:
    """`resad-plot-shots`: AUROC against the number of references."""
    _execute("resad-plot-shots", _plot_shots)


def plot_classes() -> None:
    """`resad-plot-classes`: one metric of every category, the worst in red."""
    _execute("resad-plot-classes", _plot_classes)


def align() -> None:
    """`resad-align`: for each test image the training images that look most like it."""
    _execute("resad-align", _align)


def _execute(name: str, command: Callable[..., None]) -> None:
    """Run the command, whose docstring is its help."""
    app = App(name=name)
    app.default(command)
    execute(app)


def _extract(
    *,
    dataset: str = "mvtec",
    few_shot_dir: Path | None = None,
    save_dir: Path = Path("ref_features/w50/mvtec_4shot"),
    shots: int | None = None,
    published: int | None = None,
    seed: int = 0,
    category: Annotated[tuple[str, ...], Several] = (),
    data_root: Path | None = None,
    backbone: str = "wide_resnet50_2.racm_in1k",
    image_size: int = 224,
    weights: str = "pretrained",
    batch_size: int = 8,
    gpu: str | None = None,
    device: str | None = None,
) -> None:
    """Encode normal reference images of a dataset and write their features.

    Args:
        dataset: Dataset name; `ad datasets` lists them.
        few_shot_dir: Folder of images, CATEGORY/train/good/*. [default: 4shot/DATASET]
        save_dir: Gets a folder per category with layer1.npy, layer2.npy, ...
        shots: Draw so many of the dataset's normal training images instead.
        published: Take the authors' own 4 or 8 references, found by name in the dataset, instead.
        seed: Of the draw.
        category: Categories. [default: the authors' list, else all]
        data_root: Folder that holds the datasets. [default: $AD_DATA, else ./data]
        backbone: timm tag, or imagebind.
        image_size: Side of the network's input, pixels.
        weights: Backbone weights: `pretrained`, `random` (for trials only), or a file.
        batch_size: Images per pass.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
    """
    from dataclasses import replace

    from adcommon.data import load_splits
    from adcommon.models.devices import choose_device
    from resad.backbone import build_backbone, make_preprocess
    from resad.multishot import extract

    if sum(given is not None for given in (few_shot_dir, shots, published)) > 1:
        raise BadValue("--few_shot_dir, --shots and --published name different references; use one of them")
    start_logging(None)
    base = RECIPES["imagebind" if backbone == IMAGEBIND_TAG else "paper"]
    recipe = replace(base, backbone=backbone, image_size=image_size)
    name = ALIASES.get(dataset, dataset)
    categories = category or CATEGORIES.get(name, ())
    if shots is None and published is None:
        images = extract.from_few_shot_folder(few_shot_dir or Path("4shot") / dataset, categories)
    else:
        splits = load_splits(name, Settings(data_root=data_root).root(), categories)
        if published is not None:
            images = extract.published(name, published, splits)
        else:
            images = extract.from_dataset(splits, shots or 0, seed)
    chosen = choose_device(gpu, device)
    trunk = build_backbone(recipe, weights, chosen)
    for line in extract.extract(
        images, save_dir, trunk, make_preprocess(recipe), recipe, batch_size=batch_size
    ):
        print(line)
    print(f"features of {len(images)} categories are in {save_dir}")


def _plot_shots(
    *,
    checkpoints: Annotated[tuple[Path, ...], Several] = (Path("checkpoints"),),
    setting: Annotated[tuple[str, ...], Several] = ("mvtec_to_visa",),
    shots: Annotated[tuple[int, ...], Several] = (2, 4, 6, 8),
    out: Path = Path("shots_vs_auroc.png"),
    ymin: float | None = None,
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
    csv: Path = Path("checkpoints/mvtec_to_visa_4shot/mvtec_to_visa_4shot_epoch19_metrics.csv"),
    metric: str = "Pixel AUC",
    worst: int = 3,
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

    if worst < 1:
        raise BadValue(f"--worst is {worst}; expected at least 1")
    start_logging(None)
    lowest = plot_classes(
        csv, metric, worst, out, title or f"{metric} per category: {csv.stem}", f"{metric} (fraction)"
    )
    print(f"lowest {metric}: {', '.join(reversed(lowest))}")
    _done(out, show)


def _align(
    *,
    dataset: str = "mvtec",
    category: Annotated[tuple[str, ...], Several] = (),
    data_root: Path | None = None,
    out: Path = Path("references"),
    count: int = 10,
    backbone: str = "densenet201.tv_in1k",
    image_size: int = 320,
    weights: str = "pretrained",
    batch_size: int = 8,
    gpu: str | None = None,
    device: str | None = None,
) -> None:
    """Choose for each test image the training images that look most like it, by bags of visual words.

    Args:
        dataset: Dataset name; `ad datasets` lists them.
        category: Categories. [default: the authors' list, else all]
        data_root: Folder that holds the datasets. [default: $AD_DATA, else ./data]
        out: Folder for centers/ and indices<COUNT>/; the latter is for resad-evaluate --aligned.
        count: Training images per test image.
        backbone: timm tag of the words' features, at stride 4.
        image_size: Side of its input, pixels.
        weights: Its weights: `pretrained`, `random` (for trials only), or a file.
        batch_size: Images per pass.
        gpu: Number of the GPU, or `cpu`. [default: the first GPU if there is one]
        device: Device by its torch name: cpu, cuda:1, mps.
    """
    from adcommon.data import load_splits
    from adcommon.models.devices import choose_device
    from resad.multishot.alignment import align

    start_logging(None)
    name = ALIASES.get(dataset, dataset)
    root = Settings(data_root=data_root).root()
    splits = load_splits(name, root, category or CATEGORIES.get(name, ()))
    folder = align(
        name,
        splits,
        out,
        count=count,
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        batch_size=batch_size,
        device=choose_device(gpu, device),
    )
    print(f"the choice is in {folder}; use it with resad-evaluate --aligned {folder}")


def _done(picture: Path, show: bool) -> None:
    print(f"drew {picture} and wrote {picture.with_suffix('.csv')}")
    if show:
        from PIL import Image

        with Image.open(picture) as image:
            image.show()
