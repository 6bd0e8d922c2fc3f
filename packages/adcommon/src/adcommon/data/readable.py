"""A look at every file before work starts, so that what is wrong costs seconds and not a night."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adcommon.data.check.looks import Look, MaskLook, look_at, suspicions
from adcommon.data.check.tree import Problem
from adcommon.data.kind import MOST_IMAGES, Kind
from adcommon.data.leaks import find_copies, find_near_copies, listed, pixel_digest, refuse_leak
from adcommon.data.loading import AnomalyDataset
from adcommon.data.messages import lines
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, UnreadableImage, UserError
from adcommon.io.cache import DiskCache
from adcommon.io.images import has_transparent_pixels, open_mask
from adcommon.types.records import Record, Split

logger = logging.getLogger(__name__)


def read_splits(
    splits: Iterable[Split],
    preprocess: Preprocess,
    cache: DiskCache | None,
    learned: Sequence[Record] = (),
) -> None:
    """Decode every training and test image once, which fills the cache, and judge what was seen.

    Args:
        learned: images that are trained on besides; none of them may be tested.

    Raises:
        UnreadableImage: names the files that cannot be used, all of them counted.
        Leak: images of one's own are trained on and tested; in a published dataset that is a warning.
        BadValue: masks that are certainly wrong.
    """
    splits = list(splits)
    records = [list(learned), *([*split.train, *split.test] for split in splits)]
    of_learned, *of_splits = read_all(
        AnomalyDataset(some, preprocess, cache, memory_bytes=0) for some in records
    )
    by_category: dict[str, list[Look]] = defaultdict(list)
    for look in of_learned:
        by_category[look.record.category].append(look)
    said: set[str] = set()
    for looks in by_category.values():
        _judge(looks, preprocess, said)
    for split, looks in zip(splits, of_splits, strict=True):
        _judge(looks, preprocess, said)
        count = len(split.train)
        _compare(split, [*of_learned, *looks[:count]], looks[count:])


def read_tests(splits: Iterable[Split], preprocess: Preprocess, cache: DiskCache | None) -> None:
    """The same of what an evaluation looks at: the test images alone."""
    read_splits([replace(split, train=[]) for split in splits], preprocess, cache)


def read_all(datasets: Iterable[AnomalyDataset]) -> list[list[Look]]:
    """Decode every image and mask once; what was decoded is in the caches of the datasets afterwards.

    Returns:
        What each image of each dataset shows.

    Raises:
        UnreadableImage: names the files that cannot be used, all of them counted.
    """
    datasets = list(datasets)
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    with ThreadPoolExecutor() as pool:
        found = pool.map(_look, places)
        seen = list(tqdm(found, "reading images", len(places), unit="image", disable=None, leave=False))
    if problems := [str(look) for look in seen if isinstance(look, UserError)]:
        raise UnreadableImage(
            f"{len(problems)} of {len(places)} images cannot be used:{lines(problems)}\n"
            "  Mend or remove them; `uv run ad check` lists every problem of a dataset."
        )
    looks = iter([look for look in seen if isinstance(look, Look)])
    return [[next(looks) for _ in range(len(dataset))] for dataset in datasets]


def kinds_of(
    splits: Mapping[str, Split], preprocess: Preprocess, cache: DiskCache | None
) -> tuple[Kind, ...]:
    """What the normal images of each category look like; nothing if those of one are too few for it.

    Of many, some are looked at, evenly.
    """
    kinds = []
    for split in splits.values():
        some = split.train[:: -(-len(split.train) // MOST_IMAGES) or 1]
        dataset = AnomalyDataset(some, preprocess, cache, memory_bytes=0)
        with ThreadPoolExecutor() as pool:
            kinds.append(Kind.of(list(pool.map(dataset.appearance, range(len(some))))))
    known = tuple(kind for kind in kinds if kind is not None)
    return known if len(known) == len(kinds) else ()


def _look(place: tuple[AnomalyDataset, int]) -> Look | UserError:
    dataset, index = place
    record = dataset.records[index]

    def has_transparent() -> np.ndarray:
        return np.array([has_transparent_pixels(record.image)])

    try:
        pixels, mask = dataset.pixels([index])[0], dataset.mask(index)
        return look_at(
            record, pixels, mask, lambda: bool(dataset.keep("transparent", index, has_transparent)[0])
        )
    except UserError as error:
        return error


def _judge(looks: Sequence[Look], preprocess: Preprocess, said: set[str]) -> None:
    """Warn of what is suspicious about the images of a category, and stop at what is certainly wrong.

    Args:
        said: warnings that were given already, none of which is given again.
    """
    category = looks[0].record.category if looks else ""
    problems = list(suspicions(looks, category))
    if any(problem.severity == "error" for problem in problems):
        problems = list(suspicions(list(map(_with_whole_mask, looks)), category))
    problems += _unseen(looks, preprocess, category)
    for problem in problems:
        if problem.severity == "error":
            raise BadValue(f"{problem.category}: {problem.message}{lines(problem.paths)}")
        warning = f"{problem.category}: {problem.message}{lines(problem.details or problem.paths)}"
        if warning not in said:
            said.add(warning)
            logger.warning("%s", warning)


def _with_whole_mask(look: Look) -> Look:
    """The look at the mask as it is, and not at what the network's crop and size leave of it."""
    if look.mask is None or look.record.mask is None:
        return look
    return replace(look, mask=MaskLook.of(look.mask.size, open_mask(look.record.mask), look.mask.pages))


def _unseen(looks: Sequence[Look], preprocess: Preprocess, category: str) -> Iterator[Problem]:
    """What the recipe does not look at, or looks at lying."""
    sizes = Counter(look.header.upright_size if preprocess.upright else look.header.size for look in looks)
    words = [preprocess.unseen_words(*size) for size, _ in sizes.most_common()]
    if first := next((word for word in words if word), None):
        yield Problem("warning", category, first)
    lying = [look for look in looks if look.header.orientation != 1]
    if lying and not preprocess.upright:
        message = (
            f"{len(lying)} photographs are to be turned by EXIF, and are read as they are stored (--upright)"
        )
        yield Problem("warning", category, message, tuple(look.record.image for look in lying))


def refuse_references(
    references: Sequence[Path], tested: Split, preprocess: Preprocess, cache: DiskCache | None
) -> None:
    """Refuse images of one's own that are tested and compared with at once.

    Args:
        references: what the test images are compared with.
        tested: has the test images.

    Raises:
        Leak: names them.
    """
    if tested.dataset != "folder" or not references:
        return
    dataset = AnomalyDataset(tested.test, preprocess, cache, memory_bytes=0)
    known = {pixel_digest(preprocess.pixels(path)): path for path in references}
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda index: pixel_digest(dataset.pixels([index])[0]), range(len(dataset)))
        pairs = [
            (record.image, known[digest])
            for record, digest in zip(tested.test, digests, strict=True)
            if digest in known
        ]
    what = "test images are references too, and would be compared with themselves"
    refuse_leak(pairs, what, "Leave them out of the test, or take other references.")


def _compare(split: Split, trained: Sequence[Look], tested: Sequence[Look]) -> None:
    """Refuse images that are trained on and tested, or warn of them where that is published so."""
    known, asked = [look.print for look in trained], [look.print for look in tested]
    what = "test images are training images too, so that the test is too easy"
    copies = find_copies(known, asked)
    if split.dataset == "folder":
        refuse_leak(copies, what, "Remove them from the one or the other.")
        if near := find_near_copies(known, asked):
            logger.warning(
                "%d test images are nearly the same as training images:%s", len(near), listed(near)
            )
    elif copies:
        logger.warning("%s: %d %s:%s", split.dataset, len(copies), what, listed(copies))
