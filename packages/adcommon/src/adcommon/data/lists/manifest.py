"""Lists of images instead of folders: the forms of the papers, and a plain table, read and written.

lines    train.json and test.json of UniAD; train_<category>.json, test_<category>.json, train_uni.json and
         test_uni.json of RealNet
inctrl   <name>_normal.json, <name>_outlier.json, <name>_val_normal.json, <name>_val_outlier.json of InCTRL
ader     meta.json of ADer
csv      manifest.csv, see `adcommon.data.lists.csv_list`

A list's paths begin at the folder of the list, at the data root it is read with, or where the command runs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from adcommon.data.lists.csv_list import csv_text, parse_csv
from adcommon.data.lists.entries import Entry, ListedSplit, to_records, to_splits
from adcommon.data.lists.json_lists import (
    array_text,
    lines_text,
    meta_text,
    parse_array,
    parse_lines,
    parse_meta,
    read_text,
)
from adcommon.errors import BadValue, DatasetNotFound, unknown_name
from adcommon.io.files import atomic_write
from adcommon.types.records import Record, Split

Form = Literal["lines", "inctrl", "ader", "csv"]

TABLE, META = "manifest.csv", "meta.json"
LINES = (("train.json", "test.json"), ("train_uni.json", "test_uni.json"))
_VALIDATION_NORMAL = "_val_normal.json"


def read_lines(train: Path | None, test: Path | None, image_dir: Path | None = None) -> dict[str, Split]:
    """The splits of UniAD's or RealNet's lists by category, in their order.

    An anomalous image without a mask has no pixel truth; both papers take each of its pixels as anomalous.

    Args:
        train: list of normal images; None: there is nothing to train with.
        test: list of test images; None: there is nothing to test.
        image_dir: where the lists' paths begin; else, and for what is not there, at the lists.

    Raises:
        DatasetNotFound: a list, or files that it names, are not there.
        BadValue: names the line and what is wrong with it.
    """
    listed: tuple[tuple[Path | None, ListedSplit], ...] = ((train, "train"), (test, "test"))
    entries = [entry for path, split in listed if path is not None for entry in parse_lines(path, split)]
    given = [] if image_dir is None else [image_dir]
    folders = [*given, *_folders(None, *(path for path, _ in listed if path is not None))]
    return to_splits(entries, folders)


def read_records(lists: Sequence[Path], root: Path | None = None) -> list[Record]:
    """The images of single lists of any form, in their order, normal and anomalous.

    Args:
        lists: of one dataset or of several.
        root: where paths begin that do not begin at the lists.
    """
    return to_records([entry for path in lists for entry in parse_list(path)], _folders(root, *lists))


def read_manifest(source: Path, root: Path | None = None, *, seed: int = 0) -> dict[str, Split]:
    """The splits of whatever list `source` is, by category.

    Args:
        source: a single list, or the folder of one of the forms.
        root: as for `read_records`.
        seed: draws the normal images that test where a table has no split.

    Raises:
        DatasetNotFound: there is no list, or files that it names are missing.
        BadValue: names the line and what is wrong with it.
    """
    entries = entries_of(source)
    if entries is None:
        raise DatasetNotFound(
            f"no list of images in {source}\n  Expected {TABLE}, {META}, train.json and test.json, or "
            f"<name>_normal.json, <name>{_VALIDATION_NORMAL} and their outliers."
        )
    return to_splits(entries, list_folders(source, root), seed=seed)


def of_categories(splits: Mapping[str, Split], categories: Sequence[str], where: object) -> dict[str, Split]:
    """The splits of some categories, in the order in which they are named; of all if none are.

    Args:
        where: the splits come from, for the error.

    Raises:
        UnknownName: of a category.
    """
    for name in categories:
        if name not in splits:
            raise unknown_name(f"category in {where}", name, splits)
    return {name: splits[name] for name in categories or splits}


def entries_of(source: Path) -> list[Entry] | None:
    """What the lists in a folder, or a single list of all images, say; None if there are none."""
    if source.is_file():
        return parse_list(source)
    for name, parse in ((TABLE, parse_csv), (META, parse_meta)):
        if (source / name).is_file():
            return parse(source / name)
    for train, test in LINES:
        if (source / train).is_file() and (source / test).is_file():
            return [*parse_lines(source / train, "train"), *parse_lines(source / test, "test")]
    arrays = sorted(source.glob(f"*{_VALIDATION_NORMAL}"))
    if arrays:
        return [entry for path in arrays for entry in _inctrl_entries(path)]
    return None


def parse_list(path: Path) -> list[Entry]:
    """What a single list says, whatever its form."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return parse_csv(path)
    if suffix not in (".json", ".jsonl"):
        raise BadValue(f"{path} is no list of images: expected a table *.csv, or *.json")
    text = read_text(path).lstrip()
    if text.startswith("["):
        return parse_array(path)
    return parse_lines(path) if '"filename"' in text.split("\n", 1)[0] else parse_meta(path)


def list_folders(source: Path, root: Path | None = None) -> list[Path]:
    """Where the paths of a list, or of the lists in a folder, may begin."""
    return _folders(root, source if source.is_file() else source / TABLE)


def write_manifest(
    form: Form, folder: Path, splits: Mapping[str, Split], root: Path | None, *, per_category: bool = False
) -> list[Path]:
    """Write the lists of one form into a folder and return them.

    Args:
        splits: by category.
        root: where the lists' paths begin; files elsewhere are named by absolute paths. None: paths as they
            are in the records.
        per_category: name JSON lines as RealNet does, for each category and for all.

    Raises:
        BadValue: two lists would have one name.
    """
    texts: list[tuple[str, str]] = []
    if form == "csv":
        texts.append((TABLE, csv_text(splits, root)))
    elif form == "ader":
        texts.append((META, meta_text(splits, root)))
    elif form == "inctrl":
        for category, split in splits.items():
            texts += inctrl_texts(category, split, root).items()
    else:
        train, test = LINES[per_category]
        texts.append((train, lines_text([one for split in splits.values() for one in split.train], root)))
        texts.append((test, lines_text([one for split in splits.values() for one in split.test], root)))
        for category, split in splits.items() if per_category else ():
            texts.append((f"train_{category}.json", lines_text(split.train, root)))
            texts.append((f"test_{category}.json", lines_text(split.test, root)))
    files = Counter(name.casefold() for name, _ in texts)
    if twice := [name for name, _ in texts if files[name.casefold()] > 1]:
        raise BadValue(f"two lists would be called {twice[0]}, by the names of categories; rename one")
    for name, text in texts:
        atomic_write(folder / name, text)
    return [folder / name for name, _ in texts]


def inctrl_texts(category: str, split: Split, root: Path | None) -> dict[str, str]:
    """InCTRL's four arrays by file name: those for an auxiliary dataset begin with the training images."""
    normal = [record for record in split.test if record.label == 0]
    outliers = [record for record in split.test if record.label == 1]
    parts = {"normal": [*split.train, *normal], "outlier": outliers}
    parts |= {"val_normal": normal, "val_outlier": outliers}
    return {f"{category}_{part}.json": array_text(records, root) for part, records in parts.items()}


def _inctrl_entries(validation_normal: Path) -> list[Entry]:
    """One category of InCTRL's arrays: what trains is normal and does not test."""

    def beside(*endings: str) -> Path | None:
        name = validation_normal.name.removesuffix(_VALIDATION_NORMAL)
        paths = (validation_normal.with_name(name + ending) for ending in endings)
        return next((path for path in paths if path.is_file()), None)

    test = parse_array(validation_normal, "test")
    if (outliers := beside("_val_outlier.json")) is not None:
        test += parse_array(outliers, "test")
    tested = {entry.image for entry in test}
    normal = beside("_normal.json", "_train_normal.json")  # the second is what InCTRL's README calls it
    train = [] if normal is None else parse_array(normal, "train")
    return [*(entry for entry in train if entry.image not in tested), *test]


def _folders(root: Path | None, *lists: Path) -> list[Path]:
    """Where paths begin: the folders of the lists, the root, and the working folder, as InCTRL's do."""
    given = [] if root is None else [root]
    return list(dict.fromkeys([*(path.parent for path in lists), *given, Path()]))
