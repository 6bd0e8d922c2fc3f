"""What was understood of a dataset, in words, before anything is done with it."""

from collections import Counter
from pathlib import Path

from adcommon.data.sources.layouts import Scan
from adcommon.data.sources.words import said_by
from adcommon.io.listing import list_tree
from adcommon.io.text import printable

NOT_USED = "images that the dataset does not use"
_MOST_FOLDERS = 8


def understood(category: str, scan: Scan, folder: Path | None, seed: int) -> str:
    """One line: how many images train and test, of which kinds, and from which folders they come.

    Args:
        folder: of the category; None for one that comes with the installation.
    """
    train, test = scan.split.train, scan.split.test
    drawn = f" (drawn with seed {seed})" if scan.drawn else ""
    parts = [f"trains on {len(train)} normal" if train else "nothing to train on"]
    normal = sum(record.label == 0 for record in test)
    tested = [f"{normal} normal{drawn}"] if normal else []
    if defects := Counter(record.defect for record in test if record.label == 1):
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(defects.items()))
        masks = sum(record.mask is not None for record in test if record.label == 1)
        tested.append(f"{defects.total()} anomalous ({kinds}) with {masks or 'no'} masks")
    parts.append(f"tests on {', '.join(tested)}" if tested else "nothing to test")
    if folder is not None:
        places = [path.parent for record in (*train, *test) for path in (record.image, record.mask) if path]
        names = list(dict.fromkeys(_below(place, folder) for place in places))
        more = f" and {len(names) - _MOST_FOLDERS} more" if len(names) > _MOST_FOLDERS else ""
        parts.append(f"read from {', '.join(names[:_MOST_FOLDERS])}{more}")
    return f"{category}: {'; '.join(parts)}"


def left_over(scan: Scan, folder: Path) -> dict[str, list[Path]]:
    """What lies in the folder of a category of a known dataset and is not used, by reason in words."""
    listing = list_tree(folder)
    used = {record.image for record in (*scan.split.train, *scan.split.test)}
    used.update(image for images in scan.unused.values() for image in images)
    unused = [
        image
        for image in listing.images
        if image not in used
        and not any(said_by(part).kind == "masks" for part in image.relative_to(folder).parts[:-1])
    ]
    return {**scan.unused, **({NOT_USED: unused} if unused else {}), **listing.passed_over}


def _below(place: Path, folder: Path) -> str:
    if not place.is_relative_to(folder):
        return printable(place)
    name = place.relative_to(folder).as_posix()
    return printable(folder.name or folder) if name == "." else printable(name)
