from pathlib import Path

from adcommon.data.prepare.quarter import Textile
from adcommon.data.sources.embedded import textile_folder
from adcommon.testing.downloads import make_download


def test_equal_names_in_three_folders_stay_apart(tmp_path: Path) -> None:
    raw = make_download("textile", tmp_path / "raw")
    plan = Textile().plan(raw, tmp_path / "out")
    assert plan.counts() == {
        "textile/test/global": 2,
        "textile/test/good": 2,
        "textile/test/local": 2,
        "textile/train/good": 4,
    }
    sources = {step.target: step.source for step in plan.steps}
    assert sources["textile/test/local/textile_0000.jpg"] == raw / "local/textile_0000.jpg"
    assert sources["textile/test/global/textile_0000.jpg"] == raw / "global/textile_0000.jpg"


def test_the_package_gives_750_training_images(tmp_path: Path) -> None:
    assert Textile().plan(textile_folder(), tmp_path).counts() == {
        "textile/test/global": 500,
        "textile/test/good": 250,
        "textile/test/local": 500,
        "textile/train/good": 750,
    }
