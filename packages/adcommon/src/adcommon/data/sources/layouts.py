"""Scanners of folder layouts: from a category's folder to its records, before anything is judged.

Normal images lie in folders named good, ok or NORMAL, in any case. A mask belongs to an image by its stem,
never by its position in a list.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from adcommon.io.images import list_folder, list_images
from adcommon.types.records import Record, Split

NORMAL_NAMES = ("good", "ok", "normal")
"""Folder names, in lower case, of normal images."""

MASK_EXTENSIONS = frozenset({".png", ".bmp", ".tif", ".tiff"})
"""Suffixes of masks; JPEG is none of them because it changes values."""

AD2_PRIVATE = ("test_private", "test_private_mixed")
"""Folders of MVTec AD 2 whose labels only its owners have."""

UNLABELLED = "images without labels, so without metrics; `ad predict FOLDER --model MODEL` scores them"

_DEFECT_OF_FOLDER = {"ko": "defect"}
_MASK_NAMES = ("{}_mask", "{}", "{}_label")


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found of one category."""

    split: Split
    has_masks: bool = False
    """True if there is a folder of masks."""
    missing: dict[Path, Path] = field(default_factory=dict)
    """Anomalous images without a mask -> the folder where it was looked for."""
    extra: list[Path] = field(default_factory=list)
    """Masks that belong to no image."""
    wrong: list[str] = field(default_factory=list)
    """What must not be loaded: anomalous images among the training images, two masks for one image."""
    unused: dict[str, list[Path]] = field(default_factory=dict)
    """Reason in words -> what lies there and is not used."""
    drawn: bool = False
    """True if the normal test images were drawn."""
    comparable: bool = True
    """False if the published counts are those of another split."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which mask belongs to which image."""

    masks: dict[Path, Path]
    missing: list[Path]
    extra: list[Path]
    wrong: list[str]
    """Images for which there are several masks."""


def is_normal(folder: Path) -> bool:
    """True if a folder of this name holds normal images."""
    return folder.name.casefold() in NORMAL_NAMES


def defect_of(folder_name: str) -> str:
    """The defect that a folder of anomalous images stands for: its name, but for names that only say so."""
    return _DEFECT_OF_FOLDER.get(folder_name, folder_name)


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly in `folder`, by name."""
    return list_folder(folder, lambda path: not path.name.startswith((".", "__")) and path.is_dir())


def scan_category(
    folder: Path,
    category: str,
    *,
    other_train_folders: bool = False,
    test: str = "test",
    masks: str = "ground_truth",
) -> Scan:
    """Scan `train/good`, `test/<defect>` and `ground_truth/<defect>` below a category's folder.

    Args:
        other_train_folders: further folders below `train` are passed over; by default they are wrong.
        test: the folder beside `train` that holds the test images.
        masks: the folder below the category's that holds the masks.
    """
    wrong = [
        f"'{source.name}' among the training images of category '{category}': {source}\n"
        "  Only normal images can train (a folder named good, ok or NORMAL); move the others to test."
        for source in subfolders(folder / "train")
        if not (is_normal(source) or other_train_folders) and list_images(source)
    ]
    anomalous = [source for source in subfolders(folder / test) if not is_normal(source)]
    defects = {source.name: source for source in anomalous if source != folder / masks}
    scan = scan_defects(defects, folder / masks, category)
    tested = in_order([*normal_records(folder / test, category), *scan.split.test])
    train = in_order(normal_records(folder / "train", category))
    return replace(scan, split=Split(train, tested), wrong=wrong + scan.wrong)


def scan_loco(folder: Path, category: str) -> Scan:
    """Scan a category of MVTec LOCO, raw or prepared; the mask of an image is the folder of its channels.

    A prepared tree without channels has one mask for each image, as any other.
    """
    channels = "ground_truth_channels"
    return scan_category(folder, category, masks=channels if (folder / channels).is_dir() else "ground_truth")


def scan_ad2(folder: Path, category: str) -> Scan:
    """Scan a category of MVTec AD 2: `test_public` tests, the private parts have no labels."""
    scan = scan_category(folder, category, test="test_public", masks="test_public/ground_truth")
    private = [image for part in AD2_PRIVATE for image in list_images(folder / part)]
    return replace(scan, unused={UNLABELLED: private} if private else {})


def scan_two_classes(folder: Path, category: str) -> Scan:
    """Scan a category that has anomalous training images too, which do not train here.

    VisA's two-class splits have masks of both parts, those of the test in `ground_truth/test`.
    """
    both = (folder / "ground_truth/test").is_dir()
    masks = "ground_truth/test" if both else "ground_truth"
    scan = scan_category(folder, category, other_train_folders=True, masks=masks)
    return replace(scan, comparable=not both)


def scan_nested(folder: Path, category: str, images: str, masks: str) -> Scan:
    """Scan a category whose images and masks lie side by side: `test/<defect>/<images>`, `<masks>`.

    Folders without `images` hold the images themselves; a prepared tree is scanned as any other.

    Args:
        images: "rgb" of MVTec 3D-AD, "img" of BMAD.
        masks: "gt" and "label".
    """
    sources = [*subfolders(folder / "train"), *subfolders(folder / "test")]
    if not any((source / images).is_dir() for source in sources):
        return scan_category(folder, category)
    defects = [source for source in subfolders(folder / "test") if not is_normal(source)]
    places = {source.name: (_inside(source, images), source / masks) for source in defects}
    scan = _scan_anomalous(places, category)
    test = in_order([*normal_records(folder / "test", category, images), *scan.split.test])
    train = in_order(normal_records(folder / "train", category, images))
    has_masks = any(place.is_dir() for _, place in places.values())
    return replace(scan, split=Split(train, test), has_masks=has_masks)


def scan_defects(defects: dict[str, Path], mask_root: Path, category: str) -> Scan:
    """Scan folders of anomalous images, whose masks lie in folders of the same names below `mask_root`."""
    places = {name: (source, mask_root / name) for name, source in defects.items()}
    scan = _scan_anomalous(places, category)
    for source in subfolders(mask_root):
        if source.name not in defects and not is_normal(source):
            scan.extra.extend(pair_masks([], source).extra)
    return replace(scan, has_masks=mask_root.is_dir())


def normal_records(folder: Path, category: str, below: str = "") -> list[Record]:
    """The images of the folders of normal images in `folder`; `below` is where in them the images may lie."""
    sources = [_inside(source, below) for source in subfolders(folder) if is_normal(source)]
    return [Record(image, category, 0) for source in sources for image in list_images(source)]


def _inside(folder: Path, name: str) -> Path:
    """The folder of that name in a folder, or the folder itself if it has none."""
    return inner if (inner := folder / name).is_dir() else folder


def _scan_anomalous(places: dict[str, tuple[Path, Path]], category: str) -> Scan:
    """Scan the folders of images and of masks of each defect."""
    scan = Scan(Split([], []))
    for name, (source, masks) in places.items():
        images = list_images(source)
        pairing = pair_masks(images, masks)
        defect = defect_of(name)
        scan.split.test.extend(
            Record(image, category, 1, defect, pairing.masks.get(image)) for image in images
        )
        scan.missing.update(dict.fromkeys(pairing.missing, masks))
        scan.extra.extend(pairing.extra)
        scan.wrong.extend(pairing.wrong)
    return scan


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records of one tree sorted by the image's path in code-point order: the same on every machine."""
    return sorted(records, key=lambda record: record.image.as_posix())


def pair_masks(images: Iterable[Path], folder: Path) -> Pairing:
    """Find each image's mask: `<stem>_mask.png`, `<stem>.png`, `<stem>_label.bmp`, or the folder `<stem>`."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for entry in list_folder(folder):
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            by_stem[entry.name].append(entry)
        elif entry.suffix.lower() in MASK_EXTENSIONS:
            by_stem[entry.stem].append(entry)
    masks: dict[Path, Path] = {}
    missing: list[Path] = []
    wrong: list[str] = []
    several: set[Path] = set()
    for image in images:
        found = [mask for name in _MASK_NAMES for mask in by_stem.get(name.format(image.stem), ())]
        if len(found) > 1:
            listed = ", ".join(str(mask) for mask in found)
            wrong.append(f"{len(found)} masks for one image, {image}: {listed}\n  Keep one of them.")
            several.update(found)
        elif found:
            masks[image] = found[0]
        else:
            missing.append(image)
    used = several.union(masks.values())
    extra = [mask for entries in by_stem.values() for mask in entries if mask not in used]
    return Pairing(masks, missing, extra, wrong)


def lying_there(image: Path, folder: Path) -> dict[Path, str]:
    """What is called as the mask of an image, and cannot be it -> why."""
    names = {name.format(image.stem).casefold() for name in _MASK_NAMES}
    found = [path for path in list_folder(folder) if path.stem.casefold() in names and path.is_file()]
    return {path: _why_no_mask(path) for path in found}


def _why_no_mask(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in MASK_EXTENSIONS:
        return "its name differs in the case of letters"
    lossy = "JPEG changes values" if suffix in (".jpg", ".jpeg") else "masks are PNG, BMP or TIFF"
    return f"{lossy}; save it as PNG"


def mask_places(image: Path, folder: Path) -> list[Path]:
    """Where in `folder` the mask of an image is looked for; a path without suffix is a folder of parts."""
    names = ("{}_mask.png", "{}.png", "{}.bmp", "{}_label.bmp", "{}")
    return [folder / name.format(image.stem) for name in names]
