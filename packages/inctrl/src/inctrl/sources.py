"""Which images train and which test: from datasets by name, or from InCTRL's lists; no torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adcommon.data import DATASETS, load_splits
from adcommon.data.lists.manifest import read_records
from adcommon.errors import BadValue, UserError, unknown_name
from adcommon.io.images import list_images
from adcommon.types.records import Record
from inctrl.recipes import Recipe

LISTS = "lists"
"""What the report calls images that lists name."""


@dataclass(frozen=True, slots=True)
class Target:
    """One category to test on."""

    dataset: str
    category: str
    test: list[Record]
    normal: list[Record]
    """Where references are drawn; empty if nothing but the test images is known."""

    @property
    def folder(self) -> str:
        """Where its pictures go."""
        return f"{self.dataset}/{self.category}"


def training_records(recipe: Recipe, root: Path, categories: Sequence[str] = ()) -> list[Record]:
    """All that is trained on: normal images of training and test, and all anomalous ones.

    Args:
        root: where the dataset is looked for, or where the paths of lists begin.
        categories: of the auxiliary dataset; all by default.
    """
    if recipe.normal_json_path:
        records = read_records([*recipe.normal_json_path, *recipe.outlier_json_path], root)
        return [record for record in records if not categories or record.category in categories]
    splits = load_splits(recipe.dataset, root, categories)
    return [record for split in splits.values() for record in (*split.train, *split.test)]


def find_targets(recipe: Recipe, root: Path, categories: Sequence[str] = ()) -> list[Target]:
    """The categories to test on; what is missing of all datasets is said at once.

    Args:
        categories: names, wherever they are found; all by default.
    """
    if recipe.val_normal_json_path:
        return _listed(recipe, root, categories)
    targets: list[Target] = []
    problems: list[str] = []
    for name in recipe.test_datasets:
        dataset, _, only = name.partition("/")
        wanted = [only] if only else [c for c in categories if _may_have(dataset, c)]
        if categories and (not wanted or (only and only not in categories)):
            continue
        try:
            splits = load_splits(dataset, root, wanted)
        except UserError as error:
            problems.append(str(error))
            continue
        targets += [Target(dataset, key, split.test, split.train) for key, split in splits.items()]
    if problems:
        raise UserError("\n".join(problems))
    if unknown := [name for name in categories if name not in {target.category for target in targets}]:
        known = [c for name in recipe.test_datasets for c in _categories(name)]
        raise unknown_name(f"category of {', '.join(recipe.test_datasets)}", unknown[0], known)
    return targets


def datasets_of(categories: Sequence[str]) -> tuple[str, ...]:
    """The datasets of the catalogue that have these categories, as `test_datasets` names them.

    Raises:
        UnknownName: no dataset has such a category.
        BadValue: several have.

    >>> datasets_of(["candle", "mono"])
    ('visa/candle', 'elpv/mono')
    """
    found = []
    for category in categories:
        owners = [name for name, entry in DATASETS.items() if category in entry.categories]
        owners = owners or [name for name, entry in DATASETS.items() if category in entry.extra_categories]
        if not owners:
            known = sorted({name for entry in DATASETS.values() for name in entry.categories})
            raise unknown_name("category", category, known)
        if len(owners) > 1:
            raise BadValue(f"the category '{category}' is in {', '.join(owners)}; say which with --dataset")
        found.append(f"{owners[0]}/{category}")
    return tuple(found)


def _may_have(dataset: str, category: str) -> bool:
    entry = DATASETS.get(dataset)
    return entry is None or entry.layout == "folder" or category in _categories(dataset)


def _categories(name: str) -> tuple[str, ...]:
    dataset, _, only = name.partition("/")
    entry = DATASETS.get(dataset)
    return (only,) if only else () if entry is None else entry.categories + entry.extra_categories


def _listed(recipe: Recipe, root: Path, categories: Sequence[str]) -> list[Target]:
    """The test images of InCTRL's lists, with what is beside them to draw references from."""
    tested = read_records([*recipe.val_normal_json_path, *recipe.val_outlier_json_path], root)
    normal = read_records(recipe.normal_json_path, root) if recipe.normal_json_path else []
    own = {record.image for record in tested}
    names = dict.fromkeys(record.category for record in tested)
    if unknown := [name for name in categories if name not in names]:
        raise unknown_name("category of the lists", unknown[0], names)
    targets = []
    for name in categories or names:
        test = [record for record in tested if record.category == name]
        listed = [r for r in normal if r.category == name and r.label == 0 and r.image not in own]
        targets.append(Target(LISTS, name, test, listed or _beside(test)))
    return targets


def _beside(test: Sequence[Record]) -> list[Record]:
    """The normal training images of the tree that the test images lie in, as InCTRL's converters make it."""
    roots = dict.fromkeys(record.image.parents[2] for record in test if len(record.image.parents) > 2)
    return [
        Record(image, test[0].category, 0) for root in roots for image in list_images(root / "train" / "good")
    ]
