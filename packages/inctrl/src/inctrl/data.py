"""Which images train and which test, and which of them each training step takes; no torch here.

What is tested is a `Split`: references are drawn from its normal training images, if there are any.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from adcommon.data import DATASETS, load_splits
from adcommon.data.lists.manifest import of_categories, read_records
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.errors import BadValue, EmptySplit, UserError, unknown_name
from adcommon.io.images import list_images
from adcommon.types.records import Record, Split
from inctrl.recipes import Recipe
from inctrl.settings import TestSettings

LISTS = "lists"
"""What the report calls images that lists name."""


def labelled(splits: Iterable[Split]) -> list[Record]:
    """All that is trained on: normal images of training and test, and all anomalous ones."""
    return [record for split in splits for record in (*split.train, *split.test)]


def training_records(
    recipe: Recipe, root: Path, categories: Sequence[str] = (), meaning: Meaning = NOTHING
) -> list[Record]:
    """The same of the recipe's auxiliary dataset or lists.

    Args:
        root: where the dataset is looked for, or where the paths of lists begin.
        categories: of the auxiliary dataset; all by default.
        meaning: what is said of folders of one's own, and of those to test on.
    """
    meaning = meaning.on(recipe.dataset, *recipe.test_datasets)
    if recipe.normal_json_path:
        meaning.refuse_for("lists")
        records = read_records([*recipe.normal_json_path, *recipe.outlier_json_path], root)
        return [record for record in records if not categories or record.category in categories]
    return labelled(load_splits(recipe.dataset, root, categories, meaning=meaning).values())


def find_targets(
    datasets: Sequence[str], root: Path, categories: Sequence[str] = (), meaning: Meaning = NOTHING
) -> list[Split]:
    """The categories to test on; what is missing of all datasets is said at once.

    Args:
        datasets: NAME, or NAME/CATEGORY.
        categories: names, wherever they are found; all by default.
        meaning: what is said of folders of one's own.
    """
    targets: list[Split] = []
    problems: list[str] = []
    for name in datasets:
        dataset, _, only = name.partition("/")
        wanted = [only] if only else [c for c in categories if _may_have(dataset, c)]
        if categories and (not wanted or (only and only not in categories)):
            continue
        try:
            said = meaning.on(dataset, *datasets)
            targets += load_splits(dataset, root, wanted, meaning=said).values()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    if unknown := [name for name in categories if name not in {target.category for target in targets}]:
        known = [category for name in datasets for category in _categories(name)]
        raise unknown_name(f"category of {', '.join(datasets)}", unknown[0], known)
    return targets


def datasets_of(categories: Sequence[str]) -> tuple[str, ...]:
    """The datasets of the catalogue that have these categories, as `find_targets` takes them.

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


def datasets_asked_for(data: Path | None, dataset: str | None, categories: Sequence[str]) -> tuple[str, ...]:
    """What the flags of a test ask for, as `find_targets` takes it."""
    if data is not None:
        return ("folder",)
    if dataset is None and not categories:
        raise BadValue(
            "what is to be tested? Pass --category NAME (its dataset is found by itself), --dataset NAME, or "
            "--data DIR with your own images"
        )
    return datasets_of(categories) if dataset is None else (dataset,)


def listed_targets(source: Recipe | TestSettings, root: Path, categories: Sequence[str] = ()) -> list[Split]:
    """The test images of InCTRL's lists, with what is beside them to draw references from.

    Args:
        root: where their paths begin.
    """
    tested = read_records([*source.val_normal_json_path, *source.val_outlier_json_path], root)
    normal = read_records(source.normal_json_path, root) if source.normal_json_path else []
    own = {record.image for record in tested}
    splits = {}
    for name in dict.fromkeys(record.category for record in tested):
        test = [record for record in tested if record.category == name]
        listed = [r for r in normal if r.category == name and r.label == 0 and r.image not in own]
        splits[name] = Split(listed or _beside(test), test, LISTS)
    return list(of_categories(splits, categories, "the lists").values())


def _beside(test: Sequence[Record]) -> list[Record]:
    """The normal training images of the tree that the test images lie in, as InCTRL's converters make it."""
    roots = dict.fromkeys(record.image.parents[2] for record in test if len(record.image.parents) > 2)
    return [
        Record(image, test[0].category, 0) for root in roots for image in list_images(root / "train" / "good")
    ]


def _may_have(dataset: str, category: str) -> bool:
    entry = DATASETS.get(dataset)
    return entry is None or entry.layout == "folder" or category in _categories(dataset)


def _categories(name: str) -> tuple[str, ...]:
    dataset, _, only = name.partition("/")
    entry = DATASETS.get(dataset)
    return (only,) if only else () if entry is None else entry.categories + entry.extra_categories


def balanced_indices(labels: Sequence[int], batch_size: int, *, seed: int) -> Iterator[list[int]]:
    """Batch after batch, without end: first B // 2 normal images, then the rest anomalous.

    Each class is passed through in orders of its own, drawn anew when it is exhausted, from one generator.

    Raises:
        EmptySplit: no normal or no anomalous images.
    """
    classes = [[index for index, label in enumerate(labels) if label == kind] for kind in (0, 1)]
    for images, kind in zip(classes, ("normal", "anomalous"), strict=True):
        if not images:
            raise EmptySplit(f"no {kind} images to train on; InCTRL learns from both kinds")
    return _balanced(classes, batch_size, seed)


def _balanced(classes: list[list[int]], batch_size: int, seed: int) -> Iterator[list[int]]:
    # Faithful: NumPy's old generator, which both classes share; its orders are those of the reference.
    draw = np.random.RandomState(seed)

    def endless(images: list[int]) -> Iterator[int]:
        while True:
            yield from (images[place] for place in draw.permutation(len(images)))

    normal, anomalous = map(endless, classes)
    half = batch_size // 2
    while True:
        yield [*itertools.islice(normal, half), *itertools.islice(anomalous, batch_size - half)]


def query_indices(records: Sequence[Record], recipe: Recipe, *, start: int = 0) -> Iterator[list[int]]:
    """The queries of batch after batch; the batches of the reference's evaluations are drawn and passed over.

    Args:
        start: steps to pass over.
    """
    labels = [record.label for record in records]
    batches = balanced_indices(labels, recipe.batch_size, seed=recipe.seed)
    for step in itertools.count():
        if recipe.draw_evaluation and step and step % recipe.steps_per_epoch == 0:
            next(itertools.islice(batches, recipe.steps_per_epoch - 1, None))
        indices = next(batches)
        if step >= start:
            yield indices


class ReferenceDraw:
    """Draws each query's references among the normal images of its category."""

    def __init__(self, records: Sequence[Record], shots: int, seed: int, *, self_reference: bool) -> None:
        """Nothing is drawn yet.

        Args:
            self_reference: a normal query may be its own reference.

        Raises:
            BadValue: a category has too few normal images.
        """
        self.records, self.shots, self.seed, self.self_reference = records, shots, seed, self_reference
        self.normal: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            if record.label == 0:
                self.normal.setdefault(record.category, []).append(index)
        for category in {record.category for record in records}:
            found = len(self.normal.get(category, ()))
            if found < shots:
                raise BadValue(
                    f"too few normal images of '{category}' to train with: {found}, and shots is {shots}; "
                    + (f"use --shots {found}, or fewer" if found else "add some, or leave the category out")
                )

    def __call__(self, step: int, queries: Sequence[int]) -> list[list[int]]:
        """References of each query of a step; the same for the same seed and step."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        chosen = []
        for query in queries:
            pool = self.normal[self.records[query].category]
            if not self.self_reference and len(pool) > self.shots:
                pool = [index for index in pool if index != query]
            chosen.append(draw.choice(pool, self.shots, replace=False).tolist())
        return chosen
