from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.testing.trees import make_folder
from adcommon.types.records import Record, Split
from inctrl.compat.fewshot_files import write_few_shot_file
from inctrl.references import drawn, encode_references, from_file, from_images, refuse_missing


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


def test_missing_references_are_said_with_category_count_and_remedy(tmp_path: Path) -> None:
    normal, test = [Record(tmp_path / "0.png", "part", 0)], [Record(tmp_path / "1.png", "part", 1)]
    refuse_missing([Split(normal, test, "folder")], 1, None, 64)
    with pytest.raises(BadValue, match=r"'part': 1, and shots is 2; use --shots 1, or fewer"):
        refuse_missing([Split(normal, test, "folder")], 2, None, 64)
    with pytest.raises(EmptySplit, match="no normal images of 'part'"):
        refuse_missing([Split([], test, "folder")], 2, None, 64)
    with pytest.raises(DatasetNotFound, match="no few-shot file"):
        refuse_missing([Split(normal, test, "folder")], 1, tmp_path, 64)
