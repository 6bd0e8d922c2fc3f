import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import yaml

from adcommon.cli.app import command, experiment, with_defaults
from adcommon.errors import BadValue, Stopped
from adcommon.training.recipes import recipe_for
from adcommon.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    dataset: str = "mvtec"
    """Dataset name."""
    iterations: int = 2000
    """Optimiser steps."""
    image_score: Literal["max", "top1"] = "max"
    """How maps become scores."""
    categories_apart: tuple[str, ...] = ("grid",)
    """Some names."""
    crop_size: int | None = None
    """Side of the crop."""


RECIPES = {"own": Recipe(), "visa": Recipe(dataset="visa", iterations=3000)}


def parse(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, rewrite=None, default="own"):
    """What the body of a command receives for these arguments."""
    received = []
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    try:
        experiment(
            "command",
            lambda *given: received.append(given),
            RECIPES,
            default,
            "Summary.",
            rewrite=rewrite,
            ablations={"short": Recipe(iterations=7)},
        )
    except SystemExit as done:
        if done.code:
            return done.code
    return received[0] if received else None


def test_one_flag_changes_one_field_of_the_recipe_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe, _ = parse(monkeypatch, "--recipe", "visa", "--image-score", "top1")
    assert name == "visa"
    assert (recipe.dataset, recipe.iterations, recipe.image_score) == ("visa", 3000, "top1")


def test_the_recipe_that_runs_is_said_and_what_was_changed_in_it(monkeypatch, caplog) -> None:
    with caplog.at_level("INFO"):
        parse(monkeypatch, "--recipe", "visa", "--image-score", "top1")
        parse(monkeypatch)
    assert caplog.messages == ["recipe visa with --image-score top1", "recipe own"]


def test_an_ablation_is_a_recipe_and_help_shows_the_values_of_the_one_that_would_run(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    name, recipe, _ = parse(monkeypatch, "--recipe", "short")
    assert (name, recipe.iterations) == ("short", 7)
    for words, steps in (((), 2000), (("--recipe", "visa"), 3000), (("--recipe=short",), 7)):
        parse(monkeypatch, *words, "--help")
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"Optimiser steps. [default: {steps}]" in shown
        assert "The experiment to start from: own, visa, or an ablation." in shown
    assert parse(monkeypatch, "--recipe", "shot") == 2
    assert "did you mean 'short'" in capsys.readouterr().err


def test_help_shows_the_values_of_the_recipe_that_a_file_would_choose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    chosen = partial(recipe_for, papers=["visa"])
    (tmp_path / "paper.yaml").write_text("dataset: visa\n")
    (tmp_path / "own.yaml").write_text("data: photos\n")
    (tmp_path / "broken.yaml").write_text("dataset: [")
    for name, steps in (("own", 2000), ("paper", 3000), ("broken", 3000)):
        parse(monkeypatch, "--config", tmp_path / f"{name}.yaml", "--help", default=chosen)
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"Optimiser steps. [default: {steps}]" in shown


def test_recipes_are_listed_and_nothing_runs(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert parse(monkeypatch, "--list-recipes") is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["command", "own", "visa", "ablations,", "short"]


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", ".local/share/bash-completion/completions/command"),
        ("zsh", ".zsh/completions/_cyclopts_command"),
        ("fish", ".config/fish/completions/command.fish"),
    ],
)
def test_a_shell_learns_the_flags_of_recipe_and_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str, place: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    assert parse(monkeypatch, "--install-completion", "--shell", shell) is None
    script = (tmp_path / place).read_text()
    assert all(flag in script for flag in ("image-score", "top1", "data-root", "list-recipes"))


def test_underscores_and_lists_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, recipe, settings = parse(
        monkeypatch, "--image_score", "top1", "--category", "screw", "wood", "--save_dir", "here"
    )
    assert recipe.image_score == "top1"
    assert settings.category == ("screw", "wood")
    assert settings.folder("command") == Path("here/command")


def test_the_last_file_wins_over_earlier_ones_and_the_command_line_over_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("iterations: 5\ndataset: elpv\ncrop_size: null\ncategories_apart: []\n")
    second.write_text("iterations: 6\n")
    _, recipe, _ = parse(monkeypatch, "--config", first, "--config", second)
    assert (recipe.iterations, recipe.dataset) == (6, "elpv")
    _, recipe, settings = parse(monkeypatch, "--config", first, "--config", second, "--iterations=7")
    assert recipe.iterations == 7
    assert settings.given == ("categories_apart", "crop_size", "dataset", "iterations")


def test_a_batch_is_not_divided_where_the_numbers_would_change(monkeypatch, capsys) -> None:
    assert parse(monkeypatch, "--accumulate", "4") == 2
    assert "command has no --accumulate: in parts of a batch, batch norm" in capsys.readouterr().err


def test_arguments_in_another_style_are_rewritten_first(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def rewrite(words: list[str]) -> list[str]:
        if words == ["nothing"]:
            raise BadValue("nothing cannot be rewritten")
        return ["--iterations", *words]

    assert parse(monkeypatch, "9", rewrite=rewrite)[1].iterations == 9
    assert parse(monkeypatch, "nothing", rewrite=rewrite) == 2
    assert "nothing cannot be rewritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iteratons", "3"], "Did you mean --iterations?"),
        (["--recipe", "vsa"], "did you mean 'visa'"),
        (["--gpu", "0", "--device", "cpu"], "use one of them"),
        (["--resume", "--force"], "use one of them"),
        (["--false-alarm-rate", "2"], "--false-alarm-rate is 2"),
        (["--save-every", "0"], "--save-every is 0"),
        (["--eval-size", "huge"], "map"),
    ],
)
def test_a_mistake_is_a_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert parse(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert words in " ".join((shown.out + shown.err).replace("│", " ").split())


def test_a_wrong_key_in_a_file_names_file_and_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("iteratoins: 5\n")
    assert parse(monkeypatch, "--config", file) == 2
    shown = capsys.readouterr()
    text = "".join((shown.out + shown.err).replace("│", " ").split())
    assert "iteratoins" in text
    assert "c.yaml" in text


@pytest.mark.parametrize(("number", "code"), [(0, 143), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_ends_with_the_signals_code_and_says_how_to_go_on(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*given: object) -> None:
        raise Stopped("run again with --resume", number)

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as done:
        experiment("command", stop, RECIPES, "own", "Summary.")
    assert done.value.code == code
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/data/a.png"), "error: Permission denied: /data/a.png"),
        (MemoryError(), "error: not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as done:
        experiment("command", fail, RECIPES, "own", "Summary.")
    assert done.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def body() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit, match="2"):
        command("command", body)
    assert capsys.readouterr().err == "error: not enough memory; take smaller batches or images\n"


def test_another_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(RuntimeError, match="shapes differ"):
        command("command", body)


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    code = (
        "from cyclopts import App; from adcommon.cli.app import execute; app = App()\n"
        "@app.default\ndef command():\n    for number in range(100_000): print('line', number)\n"
        "execute(app)"
    )
    talker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert talker.stdout is not None
    assert talker.stdout.readline() == b"line 0\n"
    talker.stdout.close()
    assert talker.wait(60) == 141
    assert talker.stderr is not None
    assert talker.stderr.read() == b""


def test_the_authors_files_are_translated_and_others_are_read_as_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    theirs.write_text("trainer: {max_iter: 7}\n")
    ours.write_text("dataset: elpv\ncrop_size: 32\n")

    def read(path: Path):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {"iterations": content["trainer"]["max_iter"]} if "trainer" in content else None

    received = []
    words = ["command", "--config", str(theirs), "--config", str(ours), "--crop-size", "8"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="0"):
        experiment(
            "command", lambda *given: received.append(given), RECIPES, "own", "Summary.", read_config=read
        )
    _, recipe, _ = received[0]
    assert (recipe.iterations, recipe.dataset, recipe.crop_size) == (7, "elpv", 8)


def test_a_recipes_values_become_defaults_and_its_class_stays_related() -> None:
    cls = with_defaults(RECIPES["visa"])
    assert cls().iterations == 3000
    assert isinstance(cls(), Recipe)


def test_what_is_written_down_leaves_out_how_the_run_was_continued() -> None:
    flags = replace(Settings(), resume=True).as_flags()
    assert "resume" not in flags
    assert "force" not in flags
    assert flags["weights"] == "pretrained"
    assert all(value is not None for value in flags.values())


def test_the_datasets_are_looked_for_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AD_DATA", "/somewhere")
    assert Settings().root() == Path("/somewhere")
    assert Settings(data_root=Path("here")).root() == Path("here")
    assert Settings(data=Path("mine")).root() == Path("mine")
    with pytest.raises(BadValue):
        Settings(false_alarm_rate=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n", r"holds \[1\]; expected flags and their values"),
        ("5\n", "holds 5; expected flags and their values"),
        ("seed: {a: 1}\n", r"seed is \{'a': 1\}; expected a value"),
        ("1: 2\n", "1 is 2; expected a value"),
        ("seed: [1\n", "line 2: "),
        ("a: !!python/name:os.system\n", "line 1: could not determine a constructor"),
        ("recipe: visa\n", "recipe has no effect in a file; give it on the command line"),
        ("iteratons: 7\n", r'Unknown option: "\[iteratons\]"'),
        ("trainer: 3\n", "has not the form of the authors' files"),
    ],
)
def test_a_file_of_flags_that_is_none_is_one_error_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    def read(path: Path) -> dict[str, object] | None:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) if content.startswith("trainer") else {}
        return {"iterations": given["trainer"]["max_iter"]} if given else None

    file = tmp_path / "my.yaml"
    file.write_text(content)
    monkeypatch.setattr(sys, "argv", ["command", "--config", str(file)])
    with pytest.raises(SystemExit, match="2"):
        experiment("command", lambda *given: None, RECIPES, "own", "Summary.", read_config=read)
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert re.search(message, shown), shown
    assert "my.yaml" in shown.replace(" ", "")
