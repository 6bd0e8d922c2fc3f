"""A run's folder: nothing is lost, a resumed run equals an unbroken one, signals end it in good order."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from cyclopts import App, Parameter
from cyclopts.config import Yaml

from adcommon.errors import BadValue, OutputExists, OutputFailed
from adcommon.io.versions import git_commit, library_versions
from adcommon.results.rows import write_results
from adcommon.training.logging import start_logging
from adcommon.training.run import Run, RunGroup
from adcommon.training.stop import StopSignal

ROW = {
    "method": "m",
    "dataset": "d",
    "category": "wood",
    "protocol": "standard",
    "image_auroc": 0.5,
}


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def training(run: Run, first: int, last: int) -> None:
    for step in range(first, last + 1):
        run.log(step, {"loss": 1 / step}, {"step_seconds": time.perf_counter()})
        if step % 3 == 0:
            run.log(step, {"image_auroc": 0.1 * step, "pixel_auroc": None})


def test_metrics_read_back_exactly_and_columns_grow(tmp_path: Path) -> None:
    run = Run(tmp_path / "wood")
    run.log(1, {"loss": 0.1 + 0.2})
    run.log(2, {"loss": np.float32(0.1), "images": 16, "image_auroc": None})
    run.log(3, {"a,b": float("nan")})
    assert run.metrics.read_text().splitlines() == [
        'step,loss,images,image_auroc,"a,b"',
        "1,0.30000000000000004,,,",
        "2,0.10000000149011612,16,,",
        "3,,,,nan",
    ]


def test_figures_stand_in_the_row_of_the_last_step_that_they_are_of(tmp_path: Path) -> None:
    run = Run(tmp_path / "wood")
    run.log_rows(3, [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}], {"auroc": 0.5}, {"step_seconds": 0.25})
    assert run.metrics.read_text().splitlines() == ["step,loss,auroc", "1,3.0,", "2,2.0,", "3,1.0,0.5"]
    assert run.speed.read_text().splitlines() == ["step,step_seconds", "3,0.25"]


def test_a_column_named_like_a_formula_stays_one_column(tmp_path: Path) -> None:
    Run(tmp_path / "a").log(1, {"-x/auroc": -0.5})
    for step in (2, 3):
        again = Run(tmp_path / "a")
        again.rewind(step - 1)
        again.log(step, {"-x/auroc": -0.5})
    assert (tmp_path / "a" / "metrics.csv").read_text() == "step,'-x/auroc\n1,-0.5\n2,-0.5\n3,-0.5\n"


@pytest.mark.parametrize(
    ("saved_at", "killed_at"), [(saved, killed) for killed in range(1, 8) for saved in range(killed + 1)]
)
def test_a_resumed_runs_metrics_equal_the_unbroken_runs(
    tmp_path: Path, saved_at: int, killed_at: int
) -> None:
    unbroken = Run(tmp_path / "unbroken")
    training(unbroken, 1, 7)

    training(Run(tmp_path / "broken"), 1, killed_at)
    with (tmp_path / "broken" / "metrics.csv").open("a") as file:
        file.write(f"{killed_at + 1},0.1")  # the kill came in the middle of a line
    resumed = Run(tmp_path / "broken")
    resumed.rewind(saved_at)
    training(resumed, saved_at + 1, 7)
    assert resumed.metrics.read_bytes() == unbroken.metrics.read_bytes()
    lines = resumed.speed.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", *"1234567"]


def test_a_folder_in_use_is_only_taken_when_asked(tmp_path: Path) -> None:
    RunGroup(tmp_path / "out").open()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExists, match=r"is not empty.*--resume.*--force.*--out"):
        RunGroup(tmp_path / "out")
    RunGroup(tmp_path / "out", resume=True).open()
    RunGroup(tmp_path / "out", force=True).open()
    assert tree(tmp_path) == ["out", "out/.adcommon", "out/notes.txt"]


@pytest.mark.parametrize("asked", [{}, {"resume": True}, {"force": True}])
def test_a_folder_that_no_run_made_is_left_alone(tmp_path: Path, asked: dict[str, bool]) -> None:
    for name in ("out/wood/model/a.txt", "out/wood/resume/b.txt", "out/results.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(OutputExists, match="no run of this product wrote"):
        RunGroup(tmp_path / "out", **asked)
    with pytest.raises(OutputExists, match="no run of this product wrote"):
        Run(tmp_path / "out" / "wood")
    assert tree(tmp_path) == before


def test_a_run_beside_somebodys_folder_is_refused_before_the_first(tmp_path: Path) -> None:
    group = RunGroup(tmp_path / "out", ["wood"])
    group.open()
    (group.folder / "tile").mkdir()
    (group.folder / "tile" / "a.txt").write_text("mine")
    with pytest.raises(OutputExists, match="tile holds files"):
        RunGroup(tmp_path / "out", ["wood", "tile"], force=True)


@pytest.mark.parametrize(
    "name", ["../victim", "/abs", "..", "", "a\0b", "x" * 300, "results.json", "LOG.TXT", "con"]
)
def test_a_name_that_leads_elsewhere_makes_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadValue, match="rename it"):
        RunGroup(tmp_path / "out", [name])
    with pytest.raises(BadValue, match="rename it"):
        RunGroup(tmp_path / "out").run(name)
    with pytest.raises(BadValue, match="one folder"):
        RunGroup(tmp_path / "out", ["wood", "Wood"])
    assert tree(tmp_path) == []


def test_force_deletes_what_runs_wrote_and_nothing_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.png").write_text("mine")
    group = RunGroup(tmp_path / "out")
    group.open()
    group.write_recipe({"seed": 1})
    write_results(group.folder, [ROW])
    run = group.run("wood")
    run.log(1, {"loss": 1.0})
    run.model.mkdir()
    run.maps.symlink_to(precious)
    (run.folder / "notes.txt").write_text("mine")
    finished = group.run("tile")
    finished.finish([ROW])
    (group.folder / "photos").mkdir()
    (group.folder / "photos" / "a.png").write_text("mine")
    (group.folder / "link").symlink_to(precious)

    again = RunGroup(tmp_path / "out", force=True)
    assert run.model.exists(), "nothing is deleted before the folder is opened"
    again.open()
    assert tree(group.folder) == [
        *(".adcommon", "link", "photos", "photos/a.png", "wood", "wood/.adcommon", "wood/notes.txt")
    ]
    assert (precious / "a.png").read_text() == "mine"
    again.run("wood")


def test_a_run_is_resumed_with_the_recipe_it_was_begun_with(tmp_path: Path) -> None:
    group = RunGroup(tmp_path / "out")
    group.open()
    group.write_recipe({"seed": 1, "betas": (0.5, 0.9), "device": "cpu"})
    again = RunGroup(tmp_path / "out", resume=True)
    again.refuse_changed({"seed": 1, "betas": (0.5, 0.9)})
    with pytest.raises(BadValue, match="seed was 1, is 2"):
        again.refuse_changed({"seed": 2, "betas": (0.5, 0.9)})


def test_a_finished_category_is_known_and_its_resume_state_gone(tmp_path: Path) -> None:
    run = RunGroup(tmp_path / "out").run("wood")
    run.state.parent.mkdir()
    run.state.write_text("big")
    assert run.finished() is None
    run.finish([ROW])
    again = RunGroup(tmp_path / "out", resume=True).run("wood")
    assert again.finished() == [ROW]
    assert not again.state.parent.exists()


def test_a_run_disturbs_no_writer_and_opening_the_group_cleans_up(tmp_path: Path) -> None:
    """Other processes look at the folder while the first one writes."""
    run = RunGroup(tmp_path / "out").run("wood")
    token = "0123456789abcdef" * 2
    halves = [folder / f".state.pt.writing-{token}" for folder in (run.folder, run.folder / "maps/good")]
    others = [run.folder / ".state.pt.writing-mine", run.folder / ".hidden"]
    for half in (*halves, *others):
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_text("half")
    again = RunGroup(tmp_path / "out", resume=True)
    again.run("wood").rewind(0)
    assert all(half.exists() for half in halves)
    again.open()
    assert not any(half.exists() for half in halves)
    assert all(other.exists() for other in others)


def test_a_place_that_cannot_be_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="choose another --out"):
        Run(tmp_path / "file" / "wood")


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Recipe:
    dataset: str = "mvtec"
    """Dataset."""
    crop_size: int | None = 224
    """Crop."""
    lr: float = 2e-3
    """Rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Betas."""
    eval_mode: tuple[str, ...] = ("wood",)
    """Categories."""
    amp: bool = False
    """Precision."""


def test_the_recipe_is_accepted_by_config_and_gives_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(dataset="visa", crop_size=None, lr=1e-5, betas=(0.5, 0.9), eval_mode=(), amp=True)
    group = RunGroup(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["/bin/recontrast-visa", "--data", "my folder"])
    group.write_recipe(recipe)
    file = group.folder / "recipe.yaml"
    read = []
    app = App(config=[Yaml(file, must_exist=True)], result_action="return_value")

    @app.default
    def command(*, recipe: Recipe = Recipe()) -> None:
        read.append(recipe)

    app([])
    assert read == [recipe]
    comments = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert comments[0] == "# command: recontrast-visa --data 'my folder'"
    assert "torch 2" in comments[3]
    assert "python 3" in comments[3]


def test_a_recipe_may_also_be_a_mapping_and_no_value_breaks_the_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = RunGroup(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["x", "a\nseed: 3"])
    group.write_recipe({"out": tmp_path, "rate": np.float64(0.5)})
    assert yaml.safe_load((group.folder / "recipe.yaml").read_text()) == {"out": str(tmp_path), "rate": 0.5}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_the_repository_which_tracks_the_file(tmp_path: Path) -> None:
    tracked, other = tmp_path / "code.py", tmp_path / "installed.py"
    for file in (tracked, other):
        file.write_text("1")
    assert git_commit(tracked) is None
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert git_commit(tracked) == head
    assert git_commit(other) is None
    tracked.write_text("2")
    assert git_commit(tracked) == f"{head}-dirty"


def test_versions_are_those_installed() -> None:
    assert library_versions("recontrast").items() >= {
        ("numpy", np.__version__),
        ("python", sys.version.split()[0]),
        ("recontrast", "0.1.0"),
    }
    assert "baselines" in library_versions("padim")  # a method may be named otherwise than its package
    assert library_versions("no-such-method").keys() == library_versions().keys()


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    # What a command of another test has said is not in these logs.
    root.handlers = [handler for handler in handlers if handler.name != "adcommon.training.logging"]
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, warnings.showwarning = handlers, show
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_restored")
def test_the_log_has_time_and_message_and_is_appended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("recontrast.train")
    for message in ("first", "second"):
        start_logging(tmp_path)  # as a resumed run does
        logger.info("%s step %d", message, 3)
        logger.debug("unseen")
    logger.warning("too few")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first step 3", "second step 3", "warning: too few"]
    assert lines[0][:4].isdigit()
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in shown] == ["first step 3", "second step 3", "warning: too few"]


@pytest.mark.usefixtures("_logging_restored")
def test_what_was_said_before_the_folder_was_made_is_in_its_log(tmp_path: Path) -> None:
    logger = logging.getLogger("adcommon.data")
    start_logging(None)
    logger.info("bolt: trains on 6 normal")
    start_logging(None)
    logger.warning("a.raw is not used")
    start_logging(tmp_path)
    logger.info("step 1")
    start_logging(tmp_path)  # as a resumed run does
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        *("bolt: trains on 6 normal", "warning: a.raw is not used", "step 1")
    ]


@pytest.mark.usefixtures("_logging_restored")
def test_no_folder_means_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start_logging(None)
    logging.getLogger("recontrast").info("seen")
    assert capsys.readouterr().err.endswith(" seen\n")
    assert list(tmp_path.iterdir()) == []


def test_pythons_warnings_reach_the_log_without_their_source_line(tmp_path: Path) -> None:
    script = (
        "import sys, warnings; from pathlib import Path\n"
        "from adcommon.training.logging import start_logging\n"
        "start_logging(Path(sys.argv[1])); warnings.warn('pixel AUROC of caf\\udce9 is undefined')"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True)
    assert (tmp_path / "log.txt").read_text().endswith(" warning: pixel AUROC of caf\\udce9 is undefined\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_sets_the_flag(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignal():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen = []

    def loop() -> None:
        with StopSignal() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step,loss\nmany,0.5\n", "line 2: expected 2 values, the first a step"),
        ("step,loss\n1\n", "line 2: expected 2 values"),
        ("loss\n1\n", "line 2: expected 1 values, the first a step"),
        (b"step\n\xff\n", "cannot read .*metrics"),
    ],
)
def test_a_table_that_no_run_wrote_is_refused_with_the_way_out(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    run = Run(tmp_path / "run")
    run.metrics.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadValue, match=rf"(?s)metrics\.csv.*{message}.*--force|{message}.*--force"):
        Run(tmp_path / "run")


def test_rows_of_a_finished_run_that_no_run_wrote_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.results.write_text('[{"method": 3}]')
    with pytest.raises(BadValue, match=r"(?s)results\.json, row 0: .*--force"):
        run.finished()
