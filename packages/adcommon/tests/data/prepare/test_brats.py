import gzip
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from adcommon.data.prepare.brats import Brats, write_slice
from adcommon.data.prepare.build import carry_out
from adcommon.errors import BadValue, DatasetNotFound, MissingPackage, UnreadableImage
from adcommon.testing.downloads import make_download


def test_slices_are_sorted_by_their_segmentation(tmp_path: Path) -> None:
    raw = make_download("brats", tmp_path / "raw")
    plan = carry_out(Brats(slice=4, image_format="png").plan(raw, tmp_path / "out"))
    root = tmp_path / "out/brain"
    assert plan.counts() == {
        "brain/ground_truth/lesion": 2,
        "brain/test/good": 2,
        "brain/test/lesion": 2,
        "brain/train/good": 4,
    }
    assert [path.name for path in sorted((root / "test/lesion").iterdir())] == ["00001.png", "00005.png"]
    volume = np.asarray(nibabel.load(raw / "BraTS2021_00001/BraTS2021_00001_flair.nii.gz").dataobj)[:, :, 4]
    written = Image.open(root / "test/lesion/00001.png")
    assert written.mode == "RGB"
    expected = np.rint((volume - volume.min()) * (255 / (volume.max() - volume.min())))
    np.testing.assert_array_equal(np.asarray(written)[..., 0], expected)
    mask = np.asarray(Image.open(root / "ground_truth/lesion/00001_mask.png"))
    assert np.argwhere(mask)[[0, -1]].tolist() == [[3, 2], [5, 4]]
    assert set(np.unique(mask)) == {0, 255}
    assert "derived" in plan.notes[0]


def test_published_slices_and_ours_are_jpeg_of_one_quality(tmp_path: Path) -> None:
    raw = make_download("brats", tmp_path / "raw")
    write_slice(
        raw / "BraTS2021_00000/BraTS2021_00000_flair.nii.gz", tmp_path / "a", number=0, image_format="jpg"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", quality=75)
    assert Image.open(tmp_path / "a").quantization == Image.open(tmp_path / "b.jpg").quantization


def test_an_empty_slice_is_black(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 2), 7, np.int16), np.eye(4)), tmp_path / "flat.nii")
    write_slice(tmp_path / "flat.nii", tmp_path / "flat.png", number=1, image_format="png")
    assert not np.asarray(Image.open(tmp_path / "flat.png")).any()


def test_without_nibabel_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_download("brats", tmp_path / "raw")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingPackage, match="uv pip install nibabel"):
        Brats().plan(raw, tmp_path / "out")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    raw = make_download("brats", tmp_path / "raw")
    with pytest.raises(BadValue, match=r"_seg\.nii\.gz has the shape \(12, 10, 6\); expected .* a slice 83"):
        Brats().plan(raw, tmp_path / "out")
    with pytest.raises(DatasetNotFound, match=r"no .*BraTS2021_00000_t2\.nii\.gz"):
        Brats(slice=4, modality="t2").plan(raw, tmp_path / "out")
    (raw / "BraTS2021_00003/BraTS2021_00003_seg.nii.gz").write_bytes(gzip.compress(b"no volume"))
    with pytest.raises(UnreadableImage, match=r"cannot read the volume .*00003_seg"):
        Brats(slice=4).plan(raw, tmp_path / "out")
