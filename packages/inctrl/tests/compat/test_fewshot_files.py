import pickle
from pathlib import Path

import pytest
import torch

from adcommon.errors import WrongCheckpoint
from inctrl.compat.fewshot_files import read_few_shot_file, write_few_shot_file

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5


def test_a_file_is_the_list_of_tensors_that_the_authors_programs_load(tmp_path: Path) -> None:
    write_few_shot_file(tmp_path / "nut.pt", list(IMAGES))
    content = torch.load(tmp_path / "nut.pt", weights_only=True)
    assert isinstance(content, list)
    assert [(image.shape, image.dtype) for image in content] == [((3, 8, 8), torch.float32)] * 2
    assert (tmp_path / "nut.pt").stat().st_size < 2 * 2 * IMAGES[
        0
    ].numel() * 4 + 3000  # not their whole batch each
    assert torch.equal(read_few_shot_file(tmp_path / "nut.pt", 8), IMAGES)


@pytest.mark.parametrize("content", [list(IMAGES), tuple(IMAGES), IMAGES, list(IMAGES.double())])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_form_of_the_same_images_is_read(tmp_path: Path, content: object, zipped: bool) -> None:
    torch.save(content, tmp_path / "nut.pt", _use_new_zipfile_serialization=zipped)
    images = read_few_shot_file(tmp_path / "nut.pt")
    assert torch.equal(images, IMAGES)
    assert images.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "a dict; expected a list of images"),
        ([], "a list; expected a list of images"),
        (IMAGES[0], r"a tensor of torch.float32 of shape \(3, 8, 8\); expected a list"),
        ([IMAGES[0], IMAGES[0, :1]], r"image 2: .*\(1, 8, 8\); expected a float tensor"),
        ([IMAGES[0], IMAGES[0, :, :4]], "image 2: .*equal for all images"),
        ([IMAGES[0].int()], "image 1: a tensor of torch.int32"),
        (["image"], "image 1: a str; expected a float tensor"),
        ([IMAGES[0] * torch.nan], "image 1: not all of its values are numbers"),
    ],
)
def test_what_is_no_few_shot_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "nut.pt")
    with pytest.raises(WrongCheckpoint, match=rf"nut\.pt.*{message}"):
        read_few_shot_file(tmp_path / "nut.pt")


def test_another_size_than_the_models_is_an_error(tmp_path: Path) -> None:
    write_few_shot_file(tmp_path / "nut.pt", list(IMAGES))
    with pytest.raises(WrongCheckpoint, match="expected 240x240 pixels"):
        read_few_shot_file(tmp_path / "nut.pt", 240)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (Path("evil"),)  # type: ignore[return-value]


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save([_Evil()], tmp_path / "nut.pt")
    with pytest.raises(WrongCheckpoint, match="refused: it would run"):
        read_few_shot_file(tmp_path / "nut.pt")
    (tmp_path / "nut.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(WrongCheckpoint, match=r"cannot read|is refused"):
        read_few_shot_file(tmp_path / "nut.pt")
    with pytest.raises(WrongCheckpoint, match="no checkpoint at"):
        read_few_shot_file(tmp_path / "nothing.pt")
    assert not (tmp_path / "evil").exists()
