import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from adcommon.errors import BadValue, OutputExists, UserError
from adcommon.io.versions import provenance
from adcommon.results.rows import row
from adcommon.training import apart
from adcommon.training.jobs import run_jobs
from adcommon.training.launch import Launch
from adcommon.training.settings import Settings
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    seed: int = 7


class Trainings:
    """Counts what is trained; a job named "broken" fails."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.checks = 0

    def check(self) -> None:
        self.checks += 1

    def train(self, job, run, accelerator, stop) -> list[dict]:
        if job == "broken":
            raise BadValue("this one cannot be trained")
        self.done.append(job)
        evaluation = Evaluation(
            category=job,
            normal=1,
            anomalous=1,
            image_auroc=0.75,
            image_ap=0.5,
            image_f1max=0.5,
            image_threshold=0.5,
        )
        facts = {"dataset": "elpv", "setting": "one-class", "backbone": "b", "weights": "pretrained"}
        return [row(evaluation, Facts(method="m", seed=7, **facts), seconds=1.0)]


def run(folder: Path, trainings: Trainings, *names: str, **settings) -> list[dict]:
    return run_jobs(
        "name",
        Recipe(),
        Settings(out=folder, device="cpu", **settings),
        {name: name for name in names},
        train=trainings.train,
        check=trainings.check,
        published={"one": {"image_auroc": 0.9}},
    ).rows


def test_each_job_is_trained_once_and_the_tables_hold_all(tmp_path: Path, capsys) -> None:
    trainings = Trainings()
    rows = run(tmp_path / "run", trainings, "one", "two")
    assert (trainings.done, trainings.checks) == (["one", "two"], 1)
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [entry["category"] for entry in written] == [entry["category"] for entry in rows] == ["one", "two"]
    assert "seed: 7" in (tmp_path / "run" / "recipe.yaml").read_text()
    shown = capsys.readouterr().out
    assert "90.00" in shown  # the paper's number
    assert str(tmp_path / "run") in shown
    assert f"uv run ad predict IMAGES --model {tmp_path / 'run' / 'one' / 'model'}\n" in shown
    assert f"look at {tmp_path / 'run' / 'results.html'}" in shown


def test_every_row_says_what_made_it_and_the_users_words(tmp_path: Path) -> None:
    run(tmp_path / "run", Trainings(), "one", "two", note="new lamp")
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    first, second = (entry["provenance"] for entry in written)
    assert first == second
    assert set(first) == {"commit", "versions", "recipe", "device", "note"}
    assert (first["note"], first["device"].split(",")[0]) == ("new lamp", "cpu")
    assert {"python", "torch", "numpy", "adcommon"} <= set(first["versions"])
    assert provenance(method="m", recipe=Recipe(), device="")["recipe"] == first["recipe"]
    assert provenance(method="m", recipe=Recipe(seed=8), device="")["recipe"] != first["recipe"]
    header, line, *_ = (tmp_path / "run" / "results.csv").read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=False))["recipe"] == first["recipe"]


def test_a_resumed_command_does_not_train_finished_jobs_again(tmp_path: Path) -> None:
    first, second = Trainings(), Trainings()
    with pytest.raises(BadValue, match="cannot be trained"):
        run(tmp_path / "run", first, "one", "broken")
    rows = run(tmp_path / "run", second, "one", "two", resume=True)
    assert second.done == ["two"]
    assert [entry["category"] for entry in rows] == ["one", "two"]


def test_an_existing_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    run(tmp_path / "run", Trainings(), "one")
    with pytest.raises(OutputExists, match="--resume"):
        run(tmp_path / "run", Trainings(), "one")
    again = Trainings()
    run(tmp_path / "run", again, "one", force=True)
    assert again.done == ["one"]


def test_a_refused_run_leaves_nothing_and_the_corrected_command_works(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    class Checked(Trainings):
        def check(self) -> None:
            raise BadValue("no such weights")

    for refused, names in ((Checked(), ["one"]), (Trainings(), ["broken", "one"]), (Trainings(), ["a/b"])):
        with pytest.raises(BadValue):
            run(tmp_path / "new" / "run", refused, *names)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    run(tmp_path / "new" / "run", Trainings(), "one")


def test_a_refused_run_changes_nothing_in_a_folder_of_another(tmp_path: Path) -> None:
    run(tmp_path / "run", Trainings(), "one")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    class Checked(Trainings):
        def check(self) -> None:
            raise BadValue("no such weights")

    with pytest.raises(BadValue, match="no such weights"):
        run(tmp_path / "run", Checked(), "two", force=True)
    with pytest.raises(BadValue, match="a name that the folder of a run needs"):
        run(tmp_path / "run", Trainings(), "results.json", resume=True)
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    class Impatient(Trainings):
        def train(self, job, *others) -> list[dict]:
            with pytest.raises(OutputExists, match="another process"):
                run(tmp_path / "run", Trainings(), job, resume=True)
            return super().train(job, *others)

    run(tmp_path / "run", Impatient(), "one")


class Apart:
    """Runs each trial in this process, as its command would; one named "broken" fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.trainings = folder, Trainings()
        self.asked: list[str] = []
        monkeypatch.setattr(apart, "run_trials", self)
        monkeypatch.setattr(apart, "find_command", lambda name: name)

    def __call__(self, trials, launch, folder, stop) -> list:
        failed = []
        for trial in trials:
            assert trial.arguments == ("--config", str(self.folder / "recipe.yaml"), "--job", trial.name)
            self.asked.append(trial.name)
            with pytest.raises(OutputExists, match="is being written"):
                run(self.folder, Trainings(), trial.name, resume=True)
            try:
                settings = {"job": trial.name, "resume": True}
                assert run(trial.folder, self.trainings, "one", "two", "broken", **settings) == []
            except BadValue:
                failed.append(trial)
        return failed


def test_jobs_that_are_shared_out_leave_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Apart(tmp_path / "apart", monkeypatch)
    here = Trainings()
    rows = run(other.folder, here, "one", "two", launch=Launch(jobs=2))
    assert (here.done, here.checks) == ([], 1)
    assert (other.trainings.done, other.trainings.checks) == (["one", "two"], 0)
    assert rows == run(tmp_path / "together", Trainings(), "one", "two")

    def left(folder: Path) -> list[Path]:
        return sorted(path.relative_to(folder) for path in folder.rglob("*"))

    assert left(tmp_path / "apart") == left(tmp_path / "together")


def test_the_others_are_reported_where_a_shared_out_job_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Apart(tmp_path / "apart", monkeypatch)
    with pytest.raises(UserError, match=r"1 of 3 runs failed(.|\n)*broken(.|\n)*with --resume"):
        run(other.folder, Trainings(), "one", "broken", "two", launch=Launch(jobs=2))
    written = json.loads((other.folder / "results.json").read_text())
    assert [row["category"] for row in written] == ["one", "two"]


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["one"], {"launch": Launch(launcher="ray")}, "one model to train"),
        (["one", "two"], {"launch": Launch(devices="0,1")}, "leave out --gpu and --device"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(tmp_path: Path, names, settings, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        run(tmp_path / "run", Trainings(), *names, **settings)
    assert not (tmp_path / "run").exists()
