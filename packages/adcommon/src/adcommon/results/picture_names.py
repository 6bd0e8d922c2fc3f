"""Where the picture of an image lies: names that every system can have, that of another image never."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path, PurePath

from adcommon.errors import BadValue
from adcommon.types.names import check_name
from adcommon.types.records import Record

_LONGEST = 100
"""Bytes of a name that is made safe, before what is added to it."""
_LONGEST_PATH = 400
"""Bytes of all folders together."""
LAYERS = Path("layers")
"""Folder for what pages show of a picture besides itself."""
_OTHER_FILES = frozenset({"index.html", "scores.csv", ".adcommon", LAYERS.name})
"""What lies beside pictures."""
_UNSAFE = re.compile(r'[.\\<>:"|?*\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def picture_names(images: Iterable[str | Path], suffix: str = ".png") -> list[Path]:
    """For each image, by its path below some folder, the path of its picture below another.

    It is the image's own with a suffix. A name that some system cannot have, or takes for another one's of
    the images, is made safe and gets letters that depend on the image's path alone; equal paths are counted.

    >>> picture_names(["good/000", "good/con", "crack/A", "crack/a"])[0].as_posix()
    'good/000.png'
    """
    paths = [PurePath(image) for image in images]
    safe = [_folder(path) / f"{_safe(path.name)}{suffix}" for path in paths]
    keys = [_folded(path) for path in safe]
    taken = Counter(keys)
    taken.update({_folded(parent) for path in safe for parent in path.parents})
    names = []
    times: Counter[PurePath] = Counter()
    for path, name, key in zip(paths, safe, keys, strict=True):
        times[path] += 1
        marked = _marked(path.name, path / str(times[path])) + suffix
        names.append(Path(name if taken[key] == 1 else name.with_name(marked)))
    return names


def names_of(records: Iterable[Record], suffix: str = ".png") -> list[Path]:
    """`<defect>/<image>.png` for each record, as `picture_names` makes it."""
    return picture_names((f"{record.defect}/{record.image.stem}" for record in records), suffix)


def _folder(path: PurePath) -> PurePath:
    parent = PurePath(*map(_safe, path.parts[:-1]))
    too_deep = len(os.fsencode(parent)) > _LONGEST_PATH
    return PurePath(_digest(path.parent)) if too_deep else parent


def _safe(name: str) -> str:
    """A name of a file or folder that every system can have."""
    try:
        check_name(name)
    except BadValue:
        return _marked(name, name)
    return _marked(name, name) if name.casefold() in _OTHER_FILES else name


def _marked(name: str, whole: str | PurePath) -> str:
    short = _UNSAFE.sub("_", name).encode()[:_LONGEST].decode(errors="ignore")
    return f"{short.strip()}-{_digest(whole)}"


def _digest(path: str | PurePath) -> str:
    return blake2b(os.fsencode(path), digest_size=6).hexdigest()


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.as_posix()).casefold())
