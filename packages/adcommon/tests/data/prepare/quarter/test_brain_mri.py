import shutil
from pathlib import Path

from adcommon.data.prepare.quarter import BrainMri
from adcommon.testing.downloads import make_download


def test_images_of_any_suffix_are_counted_once_although_the_archive_has_them_twice(tmp_path: Path) -> None:
    plan = BrainMri().plan(make_download("brain_mri", tmp_path / "raw"), tmp_path / "out")
    assert plan.counts() == {"brainmri/test/defect": 2, "brainmri/test/good": 1, "brainmri/train/good": 3}
    names = sorted(step.target.rpartition("/")[2] for step in plan.steps if "good" in step.target)
    assert names == ["1 no.jpeg", "A.JPG", "b.jpeg", "c.png"]


def test_either_copy_gives_the_same_tree(tmp_path: Path) -> None:
    raw = make_download("brain_mri", tmp_path / "raw")
    expected = {step.target for step in BrainMri().plan(raw, tmp_path / "out").steps}
    for name in ("yes", "no"):
        shutil.rmtree(raw / name)
    plan = BrainMri().plan(raw, tmp_path / "out")
    assert {step.target for step in plan.steps} == expected
    assert {step.source.parent.parent for step in plan.steps} == {raw / "brain_tumor_dataset"}
