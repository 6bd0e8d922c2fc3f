"""InCTRL's JSON lists of a category: what trains, what validates; no torch here.

`<name>_normal.json` and `<name>_outlier.json` are for an auxiliary dataset: normal are the training images,
then the normal test images. `<name>_val_normal.json` and `<name>_val_outlier.json` are the test images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adcommon.data.lists.manifest import inctrl_texts
from adcommon.errors import DatasetNotFound
from adcommon.io.files import atomic_write
from adcommon.io.images import is_image, list_folder
from adcommon.types.records import Record, Split

Part = Literal["train", "val"]
Endings = Literal["all", "reference"]

_TRAIN_ENDINGS = ("png", "PNG", "jpg", "npy")
_TEST_ENDINGS = (*_TRAIN_ENDINGS, "JPG", "jpeg")
"""Last letters, in this case, of what the reference lists; others it passes over without a word."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The images of a category's folder, in the order of their paths."""

    split: Split
    skipped: int
    """Files that were passed over."""


def scan(folder: Path, category: str, endings: Endings = "all") -> Scan:
    """List train/good and test/* of a folder.

    Args:
        endings: "all": images, whatever the case of their suffix; "reference": those that the reference's
            script lists, also NumPy arrays, which no program can train on.

    Raises:
        DatasetNotFound: neither folder is there.
    """
    if not (folder / "train" / "good").is_dir() and not (folder / "test").is_dir():
        raise DatasetNotFound(
            f"no train/good and no test in {folder}; expected DATASET_DIR/{category}/train/good and "
            f"DATASET_DIR/{category}/test/DEFECT"
        )
    skipped = 0

    def wanted(place: Path, known: tuple[str, ...]) -> list[Path]:
        nonlocal skipped
        files = list_folder(place, Path.is_file)
        found = [
            file
            for file in files
            if (file.name.endswith(known) if endings == "reference" else is_image(file))
        ]
        skipped += len(files) - len(found)
        return found

    train = [Record(image, category, 0) for image in wanted(folder / "train" / "good", _TRAIN_ENDINGS)]
    test = [
        Record(image, category, int(source.name != "good"), source.name)
        for source in list_folder(folder / "test", Path.is_dir)
        for image in wanted(source, _TEST_ENDINGS)
    ]
    return Scan(Split(train, test), skipped)


def write_lists(part: Part, out: Path, name: str, split: Split) -> list[Path]:
    """Write the two lists of a part, with paths as they are in the records, and return them."""
    ours = f"{name}_val_" if part == "val" else f"{name}_"
    wanted = [f"{ours}{kind}.json" for kind in ("normal", "outlier")]
    texts = inctrl_texts(name, split, None)
    for file in wanted:
        atomic_write(out / file, texts[file])
    return [out / file for file in wanted]
