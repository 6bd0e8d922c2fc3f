"""The images to train and to test with: of a dataset by name, or in a folder of one's own."""

from collections.abc import Sequence
from pathlib import Path

from adcommon.data.sources.access import load_splits
from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.io.places import default_root
from adcommon.types.records import Split


def folder(
    path: str | Path,
    *,
    category: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    masks: Sequence[str] = (),
    seed: int = 0,
) -> Split | dict[str, Split]:
    """The images in a folder, in any of the forms of `adcommon.data.sources.folder`.

    Args:
        category: one of the folder's categories, where it has several.
        good: folders of normal images, by name or path, where their names do not say it.
        bad: of anomalous images.
        masks: of masks.
        seed: draws the normal test images where the folder does not say which they are.

    Returns:
        The split of one category; of several, their splits by name.
    """
    meaning = Meaning(tuple(good), tuple(bad), tuple(masks))
    return _splits("folder", Path(path), category, seed, meaning)


def dataset(
    name: str, root: str | Path | None = None, category: str | None = None, *, seed: int = 0
) -> Split | dict[str, Split]:
    """The images of a dataset that `ad datasets` lists.

    Args:
        root: the folder that holds datasets, or the dataset itself; by default $AD_DATA, else ./data.
        category: "bottle"; by default all.
        seed: of what is drawn, see `load_records`.

    Returns:
        As `folder`.
    """
    return _splits(name, default_root() if root is None else Path(root), category, seed)


def _splits(
    name: str, root: Path, category: str | None, seed: int, meaning: Meaning = NOTHING
) -> Split | dict[str, Split]:
    splits = load_splits(name, root, () if category is None else (category,), seed=seed, meaning=meaning)
    return splits if len(splits) > 1 else next(iter(splits.values()))
