"""A look at every file before work starts, so that a damaged one costs seconds and not a night."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset
from adcommon.data.messages import lines
from adcommon.data.preprocess import Preprocess
from adcommon.errors import UnreadableImage, UserError
from adcommon.io.cache import DiskCache
from adcommon.types.records import Split


def read_splits(splits: Iterable[Split], preprocess: Preprocess, cache: DiskCache | None) -> None:
    """Decode every training and test image once, which fills the cache; see `read_all`."""
    records = [[*split.train, *split.test] for split in splits]
    read_all(AnomalyDataset(both, preprocess, cache, memory_bytes=0) for both in records)


def read_all(datasets: Iterable[AnomalyDataset]) -> None:
    """Decode every image and mask once; what was decoded is in the caches of the datasets afterwards.

    Raises:
        UnreadableImage: names the files that cannot be used, all of them counted.
    """
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    total = len(places)
    with ThreadPoolExecutor() as pool:
        messages = pool.map(_problem, places)
        shown = tqdm(messages, "reading images", total, unit="image", disable=None, leave=False)
        problems = [message for message in shown if message is not None]
    if problems:
        raise UnreadableImage(
            f"{len(problems)} of {total} images cannot be used:{lines(problems)}\n"
            "  Mend or remove them; `uv run ad check` lists every problem of a dataset."
        )


def _problem(place: tuple[AnomalyDataset, int]) -> str | None:
    dataset, index = place
    try:
        dataset.batch([index])
    except UserError as error:
        return str(error)
    return None
