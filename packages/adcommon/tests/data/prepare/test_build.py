import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import write_mask
from adcommon.errors import BadValue, EmptySplit, OutputExists, OutputFailed, UnreadableImage
from adcommon.io.files import MARKER, mark
from adcommon.testing.trees import make_folder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    raw = make_folder(tmp_path / "raw", good=6)
    steps = [Step(f"a/train/good/{path.name}", path) for path in sorted((raw / "good").iterdir())]
    return Plan(dataset="toy", source=raw, folder=tmp_path / "out/toy", steps=steps, options={"size": 3})


def tree(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if not path.is_dir() and path.name != MARKER)
    return {path.relative_to(folder).as_posix() for path in files}


def test_the_tree_the_manifest_and_nothing_else_is_written(plan: Plan) -> None:
    before = {path: path.read_bytes() for path in plan.source.rglob("*.png")}
    carry_out(plan)
    assert tree(plan.folder) == {step.target for step in plan.steps} | {"manifest.json"}
    assert [path.name for path in plan.folder.parent.iterdir()] == ["toy"]
    for step in plan.steps:
        assert (plan.folder / step.target).read_bytes() == step.source.read_bytes()
    assert {path: path.read_bytes() for path in plan.source.rglob("*.png")} == before
    manifest = json.loads((plan.folder / "manifest.json").read_text())
    assert manifest["dataset"] == "toy"
    assert manifest["counts"] == {"a/train/good": 6}
    assert manifest["options"] == {"size": 3}
    assert manifest["version"]


@pytest.mark.parametrize("link", ["hard", "symlink"])
def test_links_save_the_space(plan: Plan, link: str) -> None:
    carry_out(plan, link=link)
    for step in plan.steps:
        target = plan.folder / step.target
        assert target.samefile(step.source)
        assert target.is_symlink() == (link == "symlink")


def test_preparing_again_changes_nothing_and_force_rebuilds(plan: Plan) -> None:
    carry_out(plan)
    first = plan.folder / plan.steps[0].target
    first.write_bytes(b"mine")
    carry_out(plan)
    assert first.read_bytes() == b"mine"
    carry_out(plan, force=True)
    assert first.read_bytes() == plan.steps[0].source.read_bytes()


def test_finished_files_survive_an_interruption(plan: Plan) -> None:
    calls: list[str] = []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(source.name)
        if source.name == "003.png" and calls.count("003.png") == 1:
            raise UnreadableImage(f"cannot read the image {source}")
        target.write_bytes(source.read_bytes())

    steps = [Step(step.target, step.source, fail_once) for step in plan.steps]
    plan = Plan(dataset="toy", source=plan.source, folder=plan.folder, steps=steps)
    with pytest.raises(UnreadableImage, match=r"1 of 6 files cannot be prepared(.|\n)*003\.png"):
        carry_out(plan)
    assert not plan.folder.exists()
    assert len(calls) == 6  # the error of one file does not stop the others
    (plan.folder.parent / ".toy.preparing/a/train/good/.003.png.0123").touch()  # as after a kill
    carry_out(plan)
    assert calls[6:] == ["003.png"]
    assert len(tree(plan.folder)) == 7


def test_an_interrupted_run_with_other_options_is_not_resumed(plan: Plan) -> None:
    unfinished = plan.folder.parent / ".toy.preparing"
    (unfinished / "a/train/good").mkdir(parents=True)
    (unfinished / "a/train/good/000.png").write_bytes(b"of other options")
    with pytest.raises(OutputExists, match="no run of this product wrote"):
        carry_out(plan)
    mark(unfinished)
    carry_out(plan)
    assert (plan.folder / "a/train/good/000.png").read_bytes() != b"of other options"


def test_what_is_in_the_way_is_not_overwritten(plan: Plan) -> None:
    (plan.folder / "a").mkdir(parents=True)
    (plan.folder / "a/mine.txt").touch()
    (plan.folder / "other.txt").touch()
    with pytest.raises(OutputExists, match=r"already holds a\b(.|\n)*--force"):
        carry_out(plan)
    with pytest.raises(OutputExists, match="holds a, not made by this product"):
        carry_out(plan, force=True)
    assert tree(plan.folder) == {"a/mine.txt", "other.txt"}
    mark(plan.folder / "a")
    carry_out(plan, force=True)
    assert tree(plan.folder) == {step.target for step in plan.steps} | {"manifest.json", "other.txt"}


@pytest.mark.parametrize("old", [".a.replaced", ".toy.preparing", "manifest.json"])
def test_nothing_of_somebody_elses_is_deleted(plan: Plan, old: str) -> None:
    (plan.folder / "original").mkdir(parents=True)  # so that entries are moved one by one
    place = plan.folder.parent / old if old == ".toy.preparing" else plan.folder / old
    if old == "manifest.json":
        place.write_text('{"name": "an app"}')
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists):
        carry_out(plan, force=True)
    assert "mine" in (place / "mine.txt").read_text() if place.is_dir() else "an app" in place.read_text()


def test_the_raw_download_is_neither_written_nor_deleted(plan: Plan, tmp_path: Path) -> None:
    inside = Plan(dataset="toy", source=plan.source, folder=plan.source / "out", steps=plan.steps)
    with pytest.raises(BadValue, match="lies in the raw download"):
        carry_out(inside)
    steps = [Step(f"raw/{step.source.name}", step.source) for step in plan.steps]
    over = Plan(dataset="toy", source=plan.source, folder=tmp_path, steps=steps)
    with pytest.raises(BadValue, match="would delete the raw download"):
        carry_out(over, force=True)
    assert len(list(plan.source.rglob("*.png"))) == 6


def test_a_place_that_cannot_be_written_says_so(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputFailed, match="choose another --target"):
        carry_out(plan)


def test_the_summary_counts_every_folder(plan: Plan) -> None:
    assert plan.counts() == {"a/train/good": 6}
    assert "6 files" in plan.summary()
    assert "a/train/good: 6" in plan.summary()


@pytest.mark.parametrize(
    "target", ["../x.png", "/x.png", "a/../../x.png", "a//x.png", "a\\x.png", "a/.hidden", "a/.", ""]
)
def test_a_name_that_leaves_the_tree_is_refused(target: str, plan: Plan) -> None:
    steps = [*plan.steps, Step(target, plan.steps[0].source)]
    with pytest.raises(BadValue, match="names a file that cannot be made"):
        carry_out(dataclasses.replace(plan, steps=steps))
    assert not plan.folder.parent.exists()


@pytest.mark.parametrize("folder", ["nul", "a.", "x" * 300, "a\nb", "a:b"])
def test_a_folder_that_some_systems_cannot_have_is_refused(folder: str, plan: Plan) -> None:
    steps = [*plan.steps, Step(f"{folder}/0.png", plan.steps[0].source)]
    with pytest.raises(BadValue, match="cannot be the name of a folder"):
        carry_out(dataclasses.replace(plan, steps=steps))
    assert not plan.folder.parent.exists()


def test_an_empty_download_is_an_error(plan: Plan) -> None:
    with pytest.raises(EmptySplit, match="nothing to prepare: no images of 'toy' in"):
        carry_out(dataclasses.replace(plan, steps=[]))


def test_two_sources_for_one_file_are_refused(plan: Plan) -> None:
    steps = [*plan.steps, Step(plan.steps[0].target, plan.steps[1].source)]
    with pytest.raises(BadValue, match=r"1 files would be made from several sources: a/train/good/000\.png"):
        carry_out(dataclasses.replace(plan, steps=steps))


def test_a_tree_that_lost_a_file_does_not_count_as_prepared(plan: Plan) -> None:
    carry_out(plan)
    (plan.folder / plan.steps[0].target).unlink()
    with pytest.raises(OutputExists, match="--force"):
        carry_out(plan)
    carry_out(plan, force=True)
    assert len(tree(plan.folder)) == 7


def test_links_and_copies_do_not_mix_when_a_run_goes_on(plan: Plan) -> None:
    def stop(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    steps = [*plan.steps[:-1], dataclasses.replace(plan.steps[-1], write=stop)]
    with pytest.raises(KeyboardInterrupt):
        carry_out(dataclasses.replace(plan, steps=steps), link="symlink", workers=1)
    carry_out(plan)
    assert not any((plan.folder / step.target).is_symlink() for step in plan.steps)


def test_a_killed_run_goes_on(plan: Plan) -> None:
    script = (
        "import shutil, sys, time\n"
        "from pathlib import Path\n"
        "from adcommon.data.prepare.build import carry_out\n"
        "from adcommon.data.prepare.plan import Plan, Step\n"
        "raw, out = map(Path, sys.argv[1:])\n"
        "copy, calls = shutil.copyfile, []\n"
        "def slow(source, target):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4:\n"
        "        target.write_bytes(b'half'); print('now', flush=True); time.sleep(60)\n"
        "    copy(source, target)\n"
        "shutil.copyfile = slow\n"
        "steps = [Step(f'a/train/good/{path.name}', path) for path in sorted((raw / 'good').iterdir())]\n"
        "plan = Plan(dataset='toy', source=raw, folder=out, steps=steps, options={'size': 3})\n"
        "carry_out(plan, workers=1)\n"
    )
    command = [sys.executable, "-c", script, str(plan.source), str(plan.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    unfinished = plan.folder.parent / ".toy.preparing/a/train/good"
    times = {path.name: path.stat().st_mtime_ns for path in unfinished.glob("[0-9]*")}
    assert sorted(times) == ["000.png", "001.png", "002.png"]
    carry_out(plan)
    assert [path.name for path in plan.folder.parent.iterdir()] == ["toy"]
    for step in plan.steps:
        made = plan.folder / step.target
        assert made.read_bytes() == step.source.read_bytes()
        assert times.get(made.name, made.stat().st_mtime_ns) == made.stat().st_mtime_ns


def test_a_run_that_was_killed_while_moving_in_place_goes_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plan.folder / "original").mkdir(parents=True)  # so that entries are moved one by one
    steps = [*plan.steps, dataclasses.replace(plan.steps[0], target="b/0.png")]
    plan = dataclasses.replace(plan, steps=steps)
    rename = Path.rename

    def kill(path: Path, target: Path) -> Path:
        if path.name == "b":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", kill)
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan)
    monkeypatch.undo()
    assert (plan.folder / "a/train/good/000.png").is_file()
    assert not (plan.folder / "b").exists()
    carry_out(plan)
    assert tree(plan.folder) == {step.target for step in plan.steps} | {"manifest.json"}
    assert [path.name for path in plan.folder.parent.iterdir()] == ["toy"]


def test_a_run_that_was_killed_at_its_very_end_counts_as_done(plan: Plan) -> None:
    carry_out(plan)
    (plan.folder / "plan.txt").touch()
    (plan.folder.parent / ".toy.preparing").mkdir()
    carry_out(plan)
    assert tree(plan.folder) == {step.target for step in plan.steps} | {"manifest.json"}
    assert [path.name for path in plan.folder.parent.iterdir()] == ["toy"]


def test_an_unreadable_mask_is_collected_like_any_other_error(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    steps = [*plan.steps, Step("a/ground_truth/x/0.png", tmp_path / "broken.png", write_mask)]
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        carry_out(Plan(dataset="toy", source=plan.source, folder=plan.folder, steps=steps))
