"""Own images annotated as COCO JSON, in folders as they are read everywhere.

    <source>                                      <target>
      0001.jpg     named, without annotations       good/0001.jpg
      0002.jpg     annotated as scratch             scratch/0002.jpg, ground_truth/scratch/0002_mask.png
      0003.jpg     as scratch and as dent           combined/0003.jpg, ground_truth/combined/0003_mask.png
      a/0004.jpg                                    .../a_0004.jpg
      annotations.json

The outlines of an image are united; where annotators marked many defects at once (`iscrowd`), these count.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from adcommon.data.messages import shorten
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, refuse_missing, write_truth
from adcommon.data.prepare.shapes import Shape, Size, draw, read_box, read_outline
from adcommon.data.sources.words import said_by
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, MaskSizeMismatch
from adcommon.io.decoding import opened
from adcommon.io.headers import read_header
from adcommon.io.images import is_image
from adcommon.io.listing import list_tree
from adcommon.io.schema import read_json, shown
from adcommon.types.names import as_name, check_distinct

SEVERAL = "combined"
"""The defect of an image that has several."""


@dataclass(frozen=True, kw_only=True)
class Coco:
    """Annotated as COCO JSON; images that it names without annotations are normal."""

    annotations: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """The JSON files. [default: the only one in --source, at any depth]"""
    ignore: Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Categories that mark no defect, such as the part itself."""
    boxes: Literal["refuse", "fill"] = "refuse"
    """What becomes of annotations that have a box and no outline; `fill` takes the whole box as anomalous, so
    that pixel metrics expect too much."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; paths begin at `source`, beside the JSON file, or in a folder images of either."""
        files = self.annotations or _only_file(source)
        images = [image for file in files for image in self._images(file, source)]
        normal = sum(not image.defects for image in images)
        if not normal:
            raise EmptySplit(
                f"every image that {shorten(files)} names is annotated; expected some without, to train\n"
                "  --ignore CATEGORY if some annotations mark no defect."
            )
        defects = {as_name(name) for image in images for name in image.defects}
        check_distinct(sorted(defects), "categories")
        digests = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
        notes = [f"annotations: {', '.join(digests)}", f"{normal} images without annotations count as normal"]
        named = {image.path for image in images}
        if left := [path for path in list_tree(source.absolute()).images if path not in named]:
            notes.append(f"{len(left)} images that no annotations name are left out: {shorten(left)}")
        options = replace(self, annotations=())  # what they hold is in the notes
        steps = [step for image in images for step in image.steps()]
        return Plan("coco", source, target, steps, asdict(options), tuple(notes))

    def _images(self, file: Path, source: Path) -> Iterator["Image"]:
        """The images that a file names, with their annotations."""
        tables = _tables(file)
        names = {
            _number(item, "id", where): _text(item, "name", where) for where, item in tables["categories"]
        }
        for name in self.ignore:
            if name not in names.values():
                raise BadValue(
                    f"--ignore {name}: no such category in {file}; it has {shorten(names.values())}"
                )
        annotated: dict[int, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
        for where, item in tables["annotations"]:
            annotated[_number(item, "image_id", where)].append((where, item))
        folders = dict.fromkeys((source, source / "images", file.parent, file.parent.parent / "images"))
        listings = [Listing(folder) for folder in folders if folder.is_dir()]
        missing: list[Path] = []
        for where, item in tables["images"]:
            name = _text(item, "file_name", where)
            found = [(path, one.root) for one in listings if (path := one.find(name)) is not None]
            if not found:
                missing.append(source / name)
                continue
            path, root = found[0]
            if not is_image(path):
                raise BadValue(f"{where}: {path} is no image, by its suffix")
            image = Image(path, path.relative_to(root).as_posix().replace("/", "_"))
            yield self._annotated(image, item, where, annotated.pop(_number(item, "id", where), []), names)
        refuse_missing(missing, len(tables["images"]), f"{file} names them; is --source their folder?")
        if annotated:
            where = next(iter(annotated.values()))[0][0]
            raise BadValue(f"{where}: image_id {next(iter(annotated))} is none of the images of the file")

    def _annotated(
        self,
        image: "Image",
        item: Mapping[str, Any],
        where: str,
        annotations: Sequence[tuple[str, Mapping[str, Any]]],
        names: Mapping[int, str],
    ) -> "Image":
        """The image with its defects and their shapes."""
        size = (_number(item, "width", where), _number(item, "height", where))
        defects, shapes = [], []
        for place, annotation in annotations:
            number = _number(annotation, "category_id", place)
            if number not in names:
                raise BadValue(f"{place}: category_id {number} is none of the categories of the file")
            if names[number] in self.ignore:
                continue
            defects.append(_defect(names[number], place))
            shapes += self._shapes(annotation, size, place)
        if defects:
            _check_size(image.path, size, where)
        return replace(image, defects=tuple(dict.fromkeys(defects)), shapes=tuple(shapes), size=size)

    def _shapes(self, annotation: Mapping[str, Any], size: Size, where: str) -> list[Shape]:
        outline = read_outline(annotation.get("segmentation"), size, where)
        if outline:
            return outline
        if self.boxes == "refuse":
            raise BadValue(
                f"{where}: a box without an outline\n"
                "  --boxes fill takes boxes as masks; pixel metrics then expect too much."
            )
        return [read_box(annotation.get("bbox"), where)]


@dataclass(frozen=True)
class Image:
    """One image that a file names."""

    path: Path
    name: str
    """Of the file it becomes."""
    defects: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ()
    size: Size = (0, 0)
    """As the file states it."""

    def steps(self) -> Iterator[Step]:
        """The files it becomes."""
        if not self.defects:
            yield Step(f"good/{self.name}", self.path)
            return
        defect = as_name(self.defects[0]) if len(self.defects) == 1 else SEVERAL
        yield Step(f"{defect}/{self.name}", self.path)
        write = partial(_write_shapes, shapes=self.shapes, size=self.size)
        yield Step(f"ground_truth/{defect}/{Path(self.name).stem}_mask.png", self.path, write)


def _write_shapes(source: Path, target: Path, *, shapes: Sequence[Shape], size: Size) -> None:
    mask = draw(shapes, size)
    if not mask.any():
        raise BadValue(f"the annotations of {source} mark no pixel of it")
    write_truth(source, target, mask=mask)


def _only_file(source: Path) -> tuple[Path, ...]:
    """The JSON file of a folder, where there is one."""
    found = sorted(path for path in source.rglob("*.json") if not path.name.startswith("."))
    if len(found) != 1:
        there = shorten(found) if found else "none"
        raise DatasetNotFound(
            f"expected one JSON file of annotations in {source}, found: {there}\n"
            "  Name one or more: --annotations FILE ..."
        )
    return tuple(found)


def _tables(file: Path) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """The three arrays of a file, each entry with its place."""
    content = read_json(file)
    tables = {}
    for key in ("images", "annotations", "categories"):
        items = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            raise BadValue(
                f"{file}: no array '{key}' of objects; expected COCO JSON: images, annotations and categories"
            )
        tables[key] = [(f"{file}, {key}, entry {number}", item) for number, item in enumerate(items, start=1)]
    twice = [
        number
        for number, count in Counter(item.get("id") for _, item in tables["images"]).items()
        if count > 1
    ]
    if twice:
        raise BadValue(f"{file}: {len(twice)} images have the id of another: {shorten(twice)}")
    return tables


def _number(item: Mapping[str, Any], key: str, where: str) -> int:
    value = item.get(key)
    if type(value) is not int:
        raise BadValue(f"{where}: {key} is {shown(value)}; expected a whole number")
    return value


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadValue(f"{where}: {key} is {shown(value)}; expected text")
    return value


def _defect(name: str, where: str) -> str:
    """The name of a category, if a folder of that name is read as one of a defect."""
    kind = said_by(as_name(name)).kind
    if kind not in ("bad", "damage", "other"):
        raise BadValue(
            f"{where}: the category '{name}' is no name of a defect: a folder of it is not read as one\n"
            f"  --ignore '{name}' if it marks none; else give it another name in the file."
        )
    return name


def _check_size(path: Path, size: Size, where: str) -> None:
    """Masks are drawn on the stored or on the upright picture."""
    with opened(path):  # refuses what is above the limit of pixels
        picture = read_header(path)
    if size not in (picture.size, picture.upright_size):
        width, height = picture.size
        raise MaskSizeMismatch(
            f"{where}: {size[0]}x{size[1]} pixels, but {path} is {width}x{height} (width x height)\n"
            "  Export the annotations for these images, not for resized ones."
        )
