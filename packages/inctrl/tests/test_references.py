from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, DatasetNotFound
from adcommon.testing.trees import make_folder
from inctrl.compat.fewshot_files import write_few_shot_file
from inctrl.references import drawn, encode_references, from_file, from_images


def test_more_shots_extend_fewer_and_seeds_differ(trained, tmp_path: Path) -> None:
    good = make_folder(tmp_path / "images", good=8) / "good"
    few, many = (drawn(good, shots, 0, trained.scorer.preprocess) for shots in (2, 5))
    assert many.paths[:2] == few.paths
    assert torch.equal(many.images[:2], few.images)
    assert drawn(good, 5, 1, trained.scorer.preprocess).paths != many.paths
    assert torch.equal(from_images(few.paths, trained.scorer.preprocess).images, few.images)


def test_a_few_shot_file_goes_out_and_comes_back(trained, tmp_path: Path) -> None:
    images = torch.randn(3, 3, 64, 64)
    write_few_shot_file(tmp_path / "bolt.pt", list(images))
    assert torch.equal(from_file(tmp_path, "bolt", 64).images, images)
    assert torch.equal(from_file(tmp_path, "bolt", 64, shots=2).images, images[:2])
    with pytest.raises(BadValue, match=r"--shots is 4; .*bolt.pt holds 3 images"):
        from_file(tmp_path, "bolt", 64, shots=4)
    with pytest.raises(DatasetNotFound, match=r"no few-shot file (.|\n)*bolt.pt(.|\n)*inctrl-few-shot"):
        from_file(tmp_path, "nut", 64)


def test_encoding_does_not_depend_on_batches(vision) -> None:
    images = torch.randn(10, 3, 64, 64)
    whole = encode_references(vision.tower, images)
    assert len(whole.tokens) == 10
    torch.testing.assert_close(
        encode_references(vision.tower, images[8:]).tokens, whole.tokens[8:], rtol=1e-4, atol=1e-5
    )
