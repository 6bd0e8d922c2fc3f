"""BraTS 2021 as slices: one axial FLAIR slice of each patient, normal or with a lesion by its segmentation.

    <source>                                                     <target>/brain
      BraTS2021_00022/BraTS2021_00022_flair.nii.gz                 train/good/00014.jpg
      BraTS2021_00022/BraTS2021_00022_seg.nii.gz                   test/good/00015.jpg
                                                                   test/lesion/00022.jpg
                                                                   ground_truth/lesion/00022_mask.png

The rule is the one that ResAD's author gives for the slices he published (arXiv 2410.20047): slice 83 of
155, scaled from its smallest to its largest value onto 0 to 255. The slices he published lie as the array
does, and are JPEG of quality 75; so are these. The rounding was not published, so the result is derived,
not the published one; and a quarter of the normal slices tests here, where there the normal training images
are the normal test images.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Num
from PIL import Image

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import decode_all, find_level, quarter, write_truth
from adcommon.data.sources.layouts import subfolders
from adcommon.errors import BadValue, DatasetNotFound, MissingPackage, UnreadableImage, UserError
from adcommon.types.values import Count

Modality = Literal["flair", "t1", "t1ce", "t2"]

_PREFIX = "BraTS2021_"


@dataclass(frozen=True, kw_only=True)
class Brats:
    """The rule of ResAD's author; needs the package nibabel."""

    slice: Count = 83
    """Number of the axial slice, from 0."""
    modality: Modality = "flair"
    """Which of the four scans."""
    image_format: Literal["jpg", "png"] = "jpg"
    """Of the slices; `png` loses nothing."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has BraTS2021_00000, ..."""
        _nibabel()
        root = find_level(source, f"{_PREFIX}*/{_PREFIX}*_seg.nii*", "brats")
        cases = [
            (_volume(folder, "seg"), _volume(folder, self.modality))
            for folder in subfolders(root)
            if folder.name.startswith(_PREFIX)
        ]
        read = partial(read_slice, number=self.slice)
        masks = decode_all(read, [segmentation for segmentation, _ in cases], "reading segmentations")
        lesions = {scan: mask > 0 for (_, scan), mask in zip(cases, masks, strict=True) if (mask > 0).any()}
        parts = quarter([scan for _, scan in cases if scan not in lesions]) | {"test/lesion": list(lesions)}
        write = partial(write_slice, number=self.slice, image_format=self.image_format)
        steps = [
            Step(f"brain/{folder}/{_case(scan)}.{self.image_format}", scan, write)
            for folder, scans in parts.items()
            for scan in scans
        ]
        steps += [
            Step(f"brain/ground_truth/lesion/{_case(scan)}_mask.png", scan, partial(write_truth, mask=mask))
            for scan, mask in lesions.items()
        ]
        notes = ("derived by the rule of ResAD's author; not the slices he published",)
        return Plan("brats", root, target, steps, asdict(self), notes)


def read_slice(path: Path, *, number: int) -> Num[np.ndarray, "height width"]:
    """One axial slice of a volume, as it is stored.

    Raises:
        UnreadableImage: not a volume.
        BadValue: it has fewer slices.
    """
    try:
        volume = _nibabel().load(path)
        if len(volume.shape) != 3 or not 0 <= number < volume.shape[2]:
            raise BadValue(
                f"{path} has the shape {volume.shape}; expected three axes, and a slice {number} of the last"
            )
        return np.asarray(volume.dataobj[:, :, number])
    except UserError:
        raise
    except Exception as error:  # nibabel's own errors have no common base
        raise UnreadableImage(f"cannot read the volume {path}: {error}") from None


def write_slice(source: Path, target: Path, *, number: int, image_format: str) -> None:
    """Write a slice, scaled from its smallest to its largest value onto 0 to 255, as a grey RGB image."""
    values = read_slice(source, number=number).astype(np.float64)
    spread = np.ptp(values)
    scaled = (values - values.min()) * (255 / spread) if spread else np.zeros_like(values)
    grey = Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
    grey.save(target, format={"png": "PNG", "jpg": "JPEG"}[image_format], quality=75)


def _case(scan: Path) -> str:
    """A patient's number: "00022"."""
    return scan.parent.name.removeprefix(_PREFIX)


def _volume(folder: Path, kind: str) -> Path:
    """A volume of a patient, packed or not."""
    for suffix in (".nii.gz", ".nii"):
        path = folder / f"{folder.name}_{kind}{suffix}"
        if path.is_file():
            return path
    raise DatasetNotFound(f"no {folder / f'{folder.name}_{kind}.nii.gz'}; unpack the archive again")


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise MissingPackage(
            "BraTS volumes are read with the package nibabel, which is not installed\n"
            "  Run: uv pip install 'adcommon[brats]', or: uv pip install nibabel"
        ) from None
    return nibabel
