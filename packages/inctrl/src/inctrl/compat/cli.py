"""The commands that write the authors' files, `inctrl-json` and `inctrl-few-shot`: parse, call, print."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.cli.app import command
from adcommon.errors import BadValue
from adcommon.io.places import default_root
from adcommon.training.logging import start_logging
from adcommon.types.values import Positive, Seed, Side
from inctrl.compat.lists import Endings, Part, scan, write_lists

_Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]


def json() -> None:
    """`inctrl-json`: the authors' lists of one category, or of all of a dataset."""
    command("inctrl-json", _json)


def few_shot() -> None:
    """`inctrl-few-shot`: a few-shot file of the authors' kind from a folder of normal images."""
    command("inctrl-few-shot", _few_shot)


def _json(
    part: Part,
    *,
    name: Annotated[_Names, Parameter(alias=("--dataset-name", "--category"))] = (),
    dataset_dir: Path = Path("datasets"),
    output_dir: Annotated[Path, Parameter(alias="--out")] = Path("datasets/AD_json"),
    dataset: str | None = None,
    data_root: Path | None = None,
    endings: Endings = "all",
) -> None:
    """Write InCTRL's JSON lists: `train` (auxiliary data) or `val` (to test).

    Args:
        part: `train`: NAME_normal.json and NAME_outlier.json; `val`: NAME_val_normal.json and so on.
        name: Categories, folders below dataset-dir. [default: all]
        dataset_dir: Folder of folders NAME/train/good and NAME/test/DEFECT; paths in the lists begin with it.
        output_dir: Folder for the lists.
        dataset: Dataset of the catalogue instead of dataset-dir; `ad datasets` lists them.
        data_root: Folder that holds the dataset, or the dataset itself. [default: $AD_DATA, else ./data]
        endings: `reference` lists what the authors' script does, which passes over .JPG, .bmp and others.
    """
    written = 0
    if dataset is not None:
        from adcommon.data import load_splits

        for category, split in load_splits(dataset, data_root or default_root(), name).items():
            written += len(write_lists(part, output_dir, category, split))
    else:
        names = name or sorted(path.name for path in dataset_dir.glob("*") if (path / "test").is_dir())
        if not names:
            raise BadValue(
                f"no folders with test in {dataset_dir}; pass --dataset-dir DIR, or --dataset NAME"
            )
        for category in names:
            found = scan(dataset_dir / category, category, endings)
            written += len(write_lists(part, output_dir, category, found.split))
            if found.skipped:
                print(
                    f"{category}: {found.skipped} files were passed over: not an image by --endings {endings}"
                )
    print(f"{written} lists are in {output_dir}")


def _few_shot(
    images: Path,
    *,
    category: str | None = None,
    count: Annotated[Positive, Parameter(alias=("--shots", "--shot"))] = 2,
    seed: Seed = 0,
    out: Path = Path("fs_samples"),
    image_size: Side = 240,
) -> None:
    """Make a few-shot file CATEGORY.pt from normal images.

    Args:
        images: Folder of normal images; some are drawn.
        category: Name of the file. [default: the folder's name]
        count: Images in it.
        seed: Of the draw; with one seed, fewer images are the beginning of more.
        out: Folder for the file.
        image_size: Side of the images, pixels.
    """
    from inctrl.backbone import make_preprocess
    from inctrl.compat.fewshot_files import write_few_shot_file
    from inctrl.recipes import MVTEC
    from inctrl.references import drawn

    start_logging(None)
    preprocess = make_preprocess(MVTEC, image_size)
    references = drawn(images, count, seed, preprocess)
    path = out / f"{category or images.resolve().name}.pt"
    write_few_shot_file(path, list(references.images))
    for source in references.paths:
        print(source)
    print(f"{count} references are in {path}; seed {seed}")
