"""What the pages for practitioners tell people to type works as it is written."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cyclopts import App, ValidationError

from adcommon.cli import model_commands, reproduced, sweep
from adcommon.cli.deciding import Deciding
from adcommon.cli.many import Many
from adcommon.data import DATASETS
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.many.predict import Counted
from adcommon.deploy.model import Model
from adcommon.testing.commands import call, refused, succeed
from adcommon.testing.trees import make_folder, make_mvtec
from adcommon.training import apart
from adcommon.types.prediction import Prediction

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PARTS = re.compile(r"^(#+) |^(<!-- not run: \S[^\n]* -->)$|^```(\w*)\n(.*?)^```", re.M | re.S)
"""A heading, a mark, a block. A mark says why no test runs the blocks of its section, or of its page."""
COMMAND = re.compile(r"^(\w+=\S+ )*(uv|docker|curl|python|make|ray|srun|sbatch|tar|git) ", re.M)
PYTHON = {
    "python.md": {},
    "reproduce.md": {},
    "metrics.md": {
        "batches": [(np.eye(8, dtype=np.float32)[None], np.eye(8, dtype=bool)[None])],
        **{"image_scores": np.arange(4.0), "labels": np.array([0, 0, 1, 1])},
    },
}
"""Pages whose Python runs from top to bottom here, and the names that they take as given."""
COMMANDS = {
    "inspect.md": ["predictions/maps/index.html", "runs/compare/index.html", "model.onnx"],
    "thresholds.md": ["at-20-percent/predictions.csv"],
    "reproduce.md": [],
}
"""Pages whose commands run here, and what these leave behind."""
ELSEWHERE = ("new-method.md", "new-dataset.md", "notebooks.md")
"""Run by tests/test_new_method.py, tests/test_new_dataset.py and tests/test_notebooks.py."""
SHORT = {"--minutes 20": "--minutes 2 --methods padim"}
"""What a test has no time for, and what it does instead."""
SHORT_TRAINING = "padim-train --recipe small --data photos --force"


def commands(page: str) -> list[str]:
    """The commands in a page's blocks, and those in its running text that can be run by themselves."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"uv run ([^`\n]+)", text)


def test_every_launch_of_the_page_is_understood(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for category in "ab":
        make_folder(tmp_path / "photos" / category, good=12, defects=("Defective",))
    make_mvtec(tmp_path / "data/mvtec_anomaly_detection", DATASETS["mvtec"].categories, train=1)
    launched: list[tuple[str, int]] = []
    for room in (sweep, apart, reproduced):
        monkeypatch.setattr(
            room,
            "run_trials",
            lambda trials, launch, folder, stop: launched.append((launch.launcher, len(trials))) or trials,
        )
    trainings = [command for command in commands("clusters.md") if not command.startswith("ad predict")]
    for command in trainings:
        words = command.replace("recontrast-mvtec --data-root data", SHORT_TRAINING)
        assert "runs failed" in refused(*shlex.split(words))
    assert launched == [
        *(("local", 3), ("local", 2), ("local", 6), ("local", 1)),
        *(("slurm", 2), ("ray", 6)),
    ]


def test_every_prediction_of_the_page_is_understood(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model(lambda pixels: Prediction(pixels), Preprocess(), {"method": "drawn"})
    asked: list[tuple[str, float, bool]] = []

    def predicted(loaded: Model, load, images: str, out: Path, many: Many, *, maps: bool, **_) -> Counted:
        asked.append((images, many.gpus, maps))
        return Counted(1, Counter(normal=1), 0, None, np.zeros(1), {})

    monkeypatch.setattr(Deciding, "load", lambda *_: (model, "cpu"))
    monkeypatch.setattr(model_commands, "predict_on_ray", predicted)
    (tmp_path / "model.onnx").touch()
    for command in commands("clusters.md"):
        if command.startswith("ad predict"):
            succeed(*shlex.split(command.replace("/shared/model ", "model.onnx ")))
    assert asked == [("s3://bucket/photos", 0, False), ("/shared/photos.parquet", 1, True)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", COMMANDS)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_command_of_the_page_runs(page: str, whole: bool, tmp_path: Path, monkeypatch) -> None:
    """Exports, which take as long as all else of a page, where it is `whole`."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", good=36, defects=("Defective",))
    (tmp_path / "photos" / "good").rename(tmp_path / "photos" / "Good Parts")
    if page in ("inspect.md", "thresholds.md"):  # those in the running text too
        found = commands(page)
    else:
        shown = "".join(text for language, text, marked in blocks(DOCS / page) if not (language or marked))
        found = [line.removeprefix("uv run ") for line in shown.splitlines()]
    assert len(found) >= 2
    for command in sorted(found, key=lambda words: words.startswith("ad export ")):
        if command.startswith("ad export ") and not whole:
            continue
        for long, short in SHORT.items():
            command = command.replace(long, short)
        succeed(*shlex.split(command, comments=True))
    left = [name for name in COMMANDS[page] if whole or not name.endswith(".onnx")]
    assert [name for name in left if not (tmp_path / name).exists()] == []


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_the_page_runs(page: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", good=80, defects=("scratch",))
    found = [text for language, text, marked in blocks(DOCS / page) if language == "python" and not marked]
    names = {"__name__": page, **PYTHON[page]}
    for text in found:
        exec(compile(text, page, "exec"), names)
    assert found


def blocks(page: Path) -> Iterator[tuple[str, str, bool]]:
    """The blocks of a page: language, text, whether a mark holds for its section or one around it."""
    level = marked = 0
    for heading, mark, language, text in PARTS.findall(page.read_text(encoding="utf-8")):
        if heading:
            level = len(heading)
            marked = marked if marked < level else 0
        elif mark:
            marked = level
        else:
            yield language, text, bool(marked)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    name = page.relative_to(DOCS).as_posix() if page.is_relative_to(DOCS) else page.name
    left = [
        text
        for language, text, marked in blocks(page)
        if not marked
        and name not in ELSEWHERE
        and (name not in PYTHON if language == "python" else COMMAND.search(text) and name not in COMMANDS)
    ]
    assert left == []


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end when their words are understood; that a file is missing does not matter."""

    def parse(self: App, words: list[str], **_) -> None:
        try:
            function, bound, _ = self.parse_args(words, exit_on_error=False)
        except ValidationError as missing:
            print(missing)
        else:
            if function.__name__ == "launch":  # a training's: chooses the recipe, then parses all flags
                function(*bound.args, **bound.kwargs)

    monkeypatch.setattr(App, "__call__", parse)


def test_every_command_that_is_written_anywhere_is_understood(only_parsed: None) -> None:
    assert call("padim-train", "--no-such-flag").returncode == 2
    text = "\n".join(page.read_text("utf-8") for page in [*PAGES, *ROOT.glob("packages/*/README.md")])
    found = set(re.findall(r"uv run (?:torchrun .*--no-python )?([a-z][^`\n]*)", text.replace("\\\n", " ")))
    ours = [shlex.split(command, comments=True) for command in found]
    ours = [words for words in ours if words[0] not in ("python", "pytest", "mkdocs", "torchrun")]
    assert len(ours) > 100
    assert [words for words in ours if call(*words).returncode] == []
