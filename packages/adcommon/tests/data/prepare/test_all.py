"""What holds for every preparer, on a tiny copy of each official download."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from adcommon.data import DATASETS, load_records
from adcommon.data.check.dataset import check
from adcommon.data.prepare.aptos import Aptos
from adcommon.data.prepare.brats import Brats
from adcommon.data.prepare.build import MANIFEST, carry_out
from adcommon.data.prepare.command import PREPARERS, Request, prepare
from adcommon.data.prepare.plan import Plan, Preparer
from adcommon.data.sources.access import dtd_textures
from adcommon.io.files import MARKER
from adcommon.testing.downloads import make_download

SMALL: dict[str, Preparer] = {"aptos": Aptos(size=24, train_images=2), "brats": Brats(slice=4)}
"""Options that fit the tiny downloads."""

CATEGORY = {"elpv": "elpv", "mnist": "7", "cifar10": "cat"}
CATEGORY |= {"real_iad": "usb", "autovi": "pipe_clip", "bmad": "Chest", "coco": "coco"}
CATEGORY |= {"visa": "candle", "btad": "03", "mvtec_3d": "bagel", "mvtec_loco": "pushpins"}

every = pytest.mark.parametrize("name", PREPARERS)


def preparer(name: str) -> Preparer:
    return SMALL.get(name, PREPARERS[name])


def snapshot(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file by its relative path; not of the marks that say whose a folder is."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


def content(folder: Path) -> dict[str, str]:
    """The same without the manifest, which names its source."""
    return {path: digest for path, digest in snapshot(folder).items() if path != MANIFEST}


def test_every_dataset_that_can_be_downloaded_has_a_preparer() -> None:
    assert set(PREPARERS) - {"coco"} == set(DATASETS) - {"synthetic", "folder"}
    assert all(entry.preparer in (None, name) for name, entry in DATASETS.items())


@every
def test_the_prepared_tree_is_complete_and_the_download_untouched(name: str, tmp_path: Path) -> None:
    raw = make_download(name, tmp_path / "raw")
    before = snapshot(raw)
    plan = preparer(name).plan(raw, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]  # a plan writes nothing
    carry_out(plan)
    assert set(content(plan.folder)) == {step.target for step in plan.steps}
    assert snapshot(raw) == before
    manifest = json.loads((plan.folder / MANIFEST).read_text())
    assert manifest["dataset"] == name
    assert manifest["counts"] == plan.counts()
    for step in plan.steps:
        if step.write is None:
            assert (plan.folder / step.target).read_bytes() == step.source.read_bytes()


@every
def test_the_prepared_tree_loads(name: str, tmp_path: Path) -> None:
    entry = DATASETS.get(name, DATASETS["folder"])
    place = tmp_path / "data" / (entry.folder or name)
    place = place.parent if name == "visa" else place
    plan = carry_out(preparer(name).plan(make_download(name, tmp_path / "raw"), place))
    if name == "dtd":
        assert len(dtd_textures(tmp_path / "data")) == 4
        return
    category = CATEGORY.get(name) or entry.categories[0]
    if entry.layout in ("elpv", "textile", "folder"):  # the dataset itself is the package, or one's own
        split = load_records("folder", plan.folder, plan.folder.name if name == "elpv" else category)
    else:
        split = load_records(name, tmp_path / "data", category)
        problems = check(name, tmp_path / "data", (category,))
        assert [str(problem) for problem in problems if problem.severity == "error"] == []
    assert {record.label for record in split.train} == {0}
    assert {record.label for record in split.test} == {0, 1}
    assert split.pixel_truth == (entry.pixel_truth or name == "coco")
    for record in [*split.train, *split.test]:
        assert record.image.is_relative_to(plan.folder)


@every
def test_preparing_again_does_nothing(name: str, tmp_path: Path) -> None:
    raw = make_download(name, tmp_path / "raw")
    plan = carry_out(preparer(name).plan(raw, tmp_path / "out"))
    times = {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")}
    carry_out(preparer(name).plan(raw, tmp_path / "out"))
    assert {path: path.stat().st_mtime_ns for path in plan.folder.rglob("*")} == times


@every
def test_a_stopped_run_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    raw = make_download(name, tmp_path / "raw")
    expected = content(carry_out(preparer(name).plan(raw, tmp_path / "whole")).folder)
    plan = preparer(name).plan(raw, tmp_path / "stopped")
    half = len(plan.steps) // 2
    with pytest.raises(KeyboardInterrupt):
        carry_out(_stopping(plan, half), workers=1)
    assert not plan.folder.exists()
    unfinished = plan.folder.with_name(f".{plan.folder.name}.preparing")
    kept = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*") if path.is_file()}
    assert kept
    carry_out(preparer(name).plan(raw, tmp_path / "stopped"), workers=3)
    assert content(plan.folder) == expected
    assert not unfinished.exists()


def _stopping(plan: Plan, at: int) -> Plan:
    """The same plan, of which one file is the last that is tried."""

    def stop(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    steps = list(plan.steps)
    steps[at] = dataclasses.replace(steps[at], write=stop)
    return dataclasses.replace(plan, steps=steps)


@every
def test_an_archive_gives_the_tree_of_its_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_download(name, tmp_path / "raw")
    expected = content(carry_out(preparer(name).plan(raw, tmp_path / "expected")).folder)
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", raw))
    shutil.rmtree(raw)
    request = Request(source=(archive,), target=tmp_path / "place/out")
    prepare(name, preparer(name), dataclasses.replace(request, dry_run=True))
    assert list((tmp_path / "place").iterdir()) == []
    prepare(name, preparer(name), request)
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]
    folder = preparer_folder(tmp_path / "place/out")
    assert content(folder) == expected
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["archives"] == {archive.name: hashlib.sha256(archive.read_bytes()).hexdigest()}
    assert "raw" not in manifest
    capsys.readouterr()
    prepare(name, preparer(name), request)
    assert capsys.readouterr().out == f"already prepared: {folder}\n"


def preparer_folder(target: Path) -> Path:
    """Where the manifest is: the target, or a folder in it."""
    (manifest,) = target.rglob(MANIFEST)
    return manifest.parent
