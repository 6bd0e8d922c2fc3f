"""The papers' JSON lists as text <-> what they say.

lines   UniAD (arXiv 2206.03687), RealNet (arXiv 2403.05897): an object a line,
        filename, label, label_name, clsname (optional), maskname (optional; a list: several masks together)
array   InCTRL (arXiv 2403.06495): one array of objects, image_path, target, type
ADer    one object, {"train": {category: [...]}, "test": {category: [...]}}, of objects
        img_path, mask_path ("": none), cls_name, specie_name, anomaly
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from adcommon.data.lists.entries import Entry, ListedSplit, listed_masks, listed_path
from adcommon.data.sources.layouts import NORMAL_NAMES, defect_of
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.types.names import as_name
from adcommon.types.records import Record, Split

_LABEL_NAMES = ("good", "defective")
_BRACES = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')


def parse_lines(path: Path, split: ListedSplit = "") -> list[Entry]:
    """The entries of a list of JSON lines; labels come from the list, categories too or from the path.

    Raises:
        DatasetNotFound: no such list.
        BadValue: names the line and what is wrong with it.
    """
    entries = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            raise BadValue(f"{where}: not a JSON object; expected one object a line: {line[:60]}") from None
        if not isinstance(item, dict):
            raise BadValue(f"{where}: expected one JSON object a line, with filename and label: {line[:60]}")
        image, label = _text(item, "filename", where), _label(item, "label", where)
        name = _text(item, "label_name", where, default=_LABEL_NAMES[label])
        defect = _defect_in(image) if name in _LABEL_NAMES else name
        category = _text(item, "clsname", where, default="") or _category_in(image, where)
        masks = _masks(item.get("maskname"), where)
        entries.append(Entry(where, image, category, label, defect if label else "good", masks, split))
    return entries


def lines_text(records: Iterable[Record], root: Path | None) -> str:
    """Records as JSON lines, with paths below `root`; what `parse_lines` reads.

    `label_name` is good or defective; where the image's folder does not tell the defect, its name.
    """
    lines = []
    for record in records:
        image = listed_path(record.image, root)
        told = record.label == 0 or _defect_in(image) == record.defect
        item: dict[str, object] = {
            "filename": image,
            "label": record.label,
            "label_name": _LABEL_NAMES[record.label] if told else record.defect,
            "clsname": record.category,
        }
        masks = listed_masks(record.mask, root)
        if masks:
            item["maskname"] = masks[0] if len(masks) == 1 else masks
        lines.append(json.dumps(item) + "\n")
    return "".join(lines)


def parse_array(path: Path, split: ListedSplit = "") -> list[Entry]:
    """The entries of one of InCTRL's JSON arrays."""
    items = _load(path)
    if not isinstance(items, list):
        raise BadValue(f"{path}: expected a JSON array of objects with image_path, target and type")
    entries = []
    for number, item in enumerate(items, start=1):
        where = _where(path, item, f"entry {number}")
        image, label = _text(item, "image_path", where), _label(item, "target", where)
        category = _text(item, "type", where)
        defect = _defect_in(image) if label else "good"
        entries.append(Entry(where, image, category, label, defect, (), split))
    return entries


def array_text(records: Iterable[Record], root: Path | None) -> str:
    """Records as one of InCTRL's JSON arrays; it has no place for masks nor for other names of defects."""
    items = [
        {"image_path": listed_path(record.image, root), "target": record.label, "type": record.category}
        for record in records
    ]
    return json.dumps(items) + "\n"


def parse_meta(path: Path) -> list[Entry]:
    """The entries of ADer's meta.json."""
    table = _load(path)
    if not isinstance(table, dict) or not {"train", "test"} >= table.keys():
        raise BadValue(f'{path}: expected {{"train": {{category: [...]}}, "test": {{category: [...]}}}}')
    entries = []
    splits: tuple[ListedSplit, ...] = ("train", "test")
    for split in splits:
        categories = table.get(split, {})
        if not isinstance(categories, dict):
            raise BadValue(f"{path}, {split}: expected an object with an array for each category")
        for category, items in categories.items():
            if not isinstance(items, list):
                raise BadValue(f"{path}, {split}, {category}: expected an array of objects")
            for number, item in enumerate(items, start=1):
                where = _where(path, item, f"{split}, {category}, entry {number}")
                label = _label(item, "anomaly", where)
                image = _text(item, "img_path", where)
                defect = _text(item, "specie_name", where, default="") or _defect_in(image)
                name = _text(item, "cls_name", where, default=category)
                masks = _masks(item.get("mask_path"), where)
                entries.append(Entry(where, image, name, label, defect if label else "good", masks, split))
    return entries


def meta_text(splits: Mapping[str, Split], root: Path | None) -> str:
    """Splits as ADer's meta.json."""

    def item(record: Record) -> dict[str, object]:
        return {
            "img_path": listed_path(record.image, root),
            "mask_path": "" if record.mask is None else listed_path(record.mask, root),
            "cls_name": record.category,
            "specie_name": record.defect,
            "anomaly": record.label,
        }

    table = {
        "train": {category: [item(record) for record in split.train] for category, split in splits.items()},
        "test": {category: [item(record) for record in split.test] for category, split in splits.items()},
    }
    return json.dumps(table, indent=4) + "\n"


def read_text(path: Path) -> str:
    """The text of a list; what is no text is an error that names the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a name may hold a carriage return
            return file.read()
    except FileNotFoundError:
        raise DatasetNotFound(f"no such list: {path}") from None
    except UnicodeDecodeError as error:
        raise BadValue(f"{path}: not a list of images: byte {error.start} is not UTF-8 text") from None
    except OSError as error:
        raise BadValue(f"cannot read the list {path}: {error.strerror}") from None


class _Object(dict[str, Any]):
    """A JSON object that knows where it begins."""

    line = 0


def _load(path: Path) -> Any:
    """The JSON of a file, whose objects are `_Object`s."""
    text = read_text(path)
    objects: list[_Object] = []

    def keep(pairs: list[tuple[str, Any]]) -> _Object:
        objects.append(_Object(pairs))
        return objects[-1]

    try:
        value = json.loads(text, object_pairs_hook=keep)
    except json.JSONDecodeError as error:
        raise BadValue(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise BadValue(f"{path}: not a list of images: too large a number, or nested too deep") from None
    for item, line in zip(objects, _lines_of_objects(text), strict=True):
        item.line = line
    return value


def _lines_of_objects(text: str) -> Iterator[int]:
    """The line on which each object of a JSON text begins, in the order in which the objects end."""
    line, counted = 1, 0
    open_objects = []
    for token in _BRACES.finditer(text):
        if token.group() == "{":
            line += text.count("\n", counted, token.start())
            counted = token.start()
            open_objects.append(line)
        elif token.group() == "}":
            yield open_objects.pop()


def _where(path: Path, item: object, entry: str) -> str:
    if not isinstance(item, _Object):
        raise BadValue(f"{path}, {entry}: expected an object, found {item!r:.60}")
    return f"{path}, line {item.line}"


def _text(item: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = item.get(key, default)
    if isinstance(value, str):
        return value
    if value is None and default is not None:
        return default
    raise _wrong(item, key, where, "text")


def _label(item: Mapping[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise _wrong(item, key, where, "0 (normal) or 1 (anomalous)")


def _wrong(item: Mapping[str, Any], key: str, where: str, expected: str) -> BadValue:
    found = f"{item[key]!r:.60}" if key in item else "missing"
    return BadValue(f"{where}: {key} is {found}; expected {expected}")


def _masks(value: object, where: str) -> tuple[str, ...]:
    if not value:
        return ()
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise BadValue(f"{where}: the mask is {value!r:.60}; expected a path, or a list of paths")
    return tuple(names)


def _defect_in(image: str) -> str:
    """The kind of anomaly of `<category>/<split>/<defect>/<file>`."""
    folder = PurePosixPath(image).parent.name
    return "anomalous" if folder.casefold() in ("", *NORMAL_NAMES) else as_name(defect_of(folder))


def _category_in(image: str, where: str) -> str:
    """The fourth part from the end, as UniAD and RealNet take it where a line has no clsname."""
    parts = PurePosixPath(image).parts
    if len(parts) < 4:
        raise BadValue(
            f"{where}: no clsname, and {image} does not tell the category; "
            "expected <category>/<split>/<defect>/<file>"
        )
    return parts[-4]
