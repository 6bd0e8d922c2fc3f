"""`--track`: each tracker's own reader finds the rows of metrics.csv, whatever happened in between."""

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from accelerate.tracking import TensorBoardTracker

from adcommon.errors import BadValue, MissingPackage, Stopped
from adcommon.results.rows import row
from adcommon.training.jobs import run_jobs
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation

JOB = "Teile 5 (neu)"
TRACKED = "Teile 5 _neu_"
"""As MLflow takes it in the name of a metric."""
Series = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True, kw_only=True)
class Recipe(Arithmetic):
    seed: int = 7
    layers: tuple[int, ...] = (1, 2)


def train(run: Run, first: int, *, killed_after: int = 0) -> list[dict]:
    """Six steps; begins after `first`, the step whose state was saved."""
    run.rewind(first)
    for step in range(first + 1, 7):
        values = {"loss": 1 / step, f"{JOB}/image_auroc": 0.5 if step % 3 == 0 else None}
        run.log(step, values, {"step_seconds": 0.5, "peak_memory_mb": None} if step % 2 == 0 else None)
        if step == killed_after:
            raise Stopped("stopped")
    evaluation = Evaluation(
        category=JOB,
        normal=1,
        anomalous=1,
        image_auroc=0.75,
        image_ap=0.5,
        image_f1max=0.5,
        image_threshold=0.5,
    )
    facts = {"dataset": "elpv", "setting": "one-class", "backbone": "b", "weights": "pretrained"}
    draws = (Facts(method="m", seed=7, shots=2, references=draw, **facts) for draw in ("a", "b"))
    return [row(evaluation, draw, seconds=1.0) for draw in draws]


def tracked(out: Path, track: str, *jobs: str, first: int = 0, killed_after: int = 0, **settings) -> None:
    run_jobs(
        "m-small",
        Recipe(),
        Settings(out=out, device="cpu", track=track, **settings),
        {name: name for name in jobs or (JOB,)},
        train=lambda job, run, accelerator, stop: train(run, first, killed_after=killed_after),
        check=lambda: None,
    )


def in_tensorboard(out: Path) -> tuple[Series, dict]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = out / "tracking" / "tensorboard" / JOB
    events = EventAccumulator(str(folder)).Reload()
    (recipe,) = folder.glob("*/hparams.yml")
    series = {
        name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    return series, yaml.safe_load(recipe.read_text())


def in_mlflow(out: Path) -> tuple[Series, dict]:
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.MlflowClient((out / "tracking" / "mlflow").as_uri())
        experiment = client.get_experiment_by_name("m-small")
        (run,) = client.search_runs([experiment.experiment_id])
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    assert (run.info.run_name, run.info.status) == (JOB, "FINISHED")
    return {
        name: [(one.step, one.value) for one in rows] for name, rows in histories.items()
    }, run.data.params


@pytest.mark.parametrize(("track", "read"), [("tensorboard", in_tensorboard), ("mlflow", in_mlflow)])
def test_a_run_that_was_stopped_twice_is_one_tracked_run_with_every_row_once(
    track: str, read, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out, surroundings = tmp_path / "run ä", set(os.environ)
    for first, killed_after in ((0, 5), (3, 4)):  # the second ends before it has come as far as the first
        with pytest.raises(Stopped):
            tracked(out, track, first=first, killed_after=killed_after, resume=True)
    tracked(out, track, first=3, resume=True, workers=1)

    series, config = read(out)
    with (out / JOB / "metrics.csv").open(newline="") as file:
        losses = [(int(line["step"]), float(line["loss"])) for line in csv.DictReader(file)]
    assert series["loss"] == [(step, pytest.approx(loss)) for step, loss in losses]
    assert [step for step, _ in series[f"{TRACKED}/image_auroc"]] == [3, 6]
    assert series["speed/step_seconds"] == [(2, 0.5), (4, 0.5), (6, 0.5)]
    assert series[f"results/{TRACKED}/standard/b/image_auroc"] == [(6, 0.75)]
    assert {name: str(config[name]) for name in ("seed", "layers")} == {"seed": "7", "layers": "[1, 2]"}
    assert set(os.environ) - surroundings <= {"ACCELERATE_TORCH_DEVICE"}
    assert not (tmp_path / "home").exists()
    tracked(out, track, force=True)
    assert read(out)[0]["loss"] == series["loss"]


def test_without_track_no_tracker_is_imported_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    for name in ("tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # its import fails
    tracked(tmp_path, "none")
    assert list(tmp_path.rglob("tracking*")) == []


def test_a_tracker_that_fails_is_said_once_and_the_training_goes_on(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    def full(self, values, step, **further) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoardTracker, "log", full)
    tracked(tmp_path, "tensorboard", "one", "two")
    said = [record.getMessage() for record in caplog.records if "No space left" in record.getMessage()]
    assert len(said) == 2, "once for each job"
    assert "tracking ended at step 1" in said[0]
    assert len((tmp_path / "two" / "metrics.csv").read_text().splitlines()) == 7


def test_a_tracker_that_cannot_begin_is_an_error_before_the_first_job_alone(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://")
    with pytest.raises(BadValue, match=r"cannot track one with mlflow.*\n.*leave out --track"):
        tracked(tmp_path / "run", "mlflow", "one")
    assert list(tmp_path.iterdir()) == []

    def start(self, begin=TensorBoardTracker.start) -> None:
        if self.run_name == "two":
            raise ConnectionError("gone")
        begin(self)

    monkeypatch.setattr(TensorBoardTracker, "start", start)
    tracked(tmp_path / "run", "tensorboard", "one", "two")
    assert "cannot track two with tensorboard: gone; it is trained all the same" in caplog.text
    assert len((tmp_path / "run" / "two" / "metrics.csv").read_text().splitlines()) == 7


def test_wandb_is_offline_unless_the_environment_says_otherwise(tmp_path: Path, monkeypatch) -> None:
    begun: list[dict] = []

    def init(**given) -> SimpleNamespace:
        begun.append(given)
        return SimpleNamespace(id="abc", log=lambda values, step: None, finish=lambda: None)

    config = SimpleNamespace(update=lambda values, allow_val_change: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, config=config))
    monkeypatch.setattr("adcommon.errors.find_spec", lambda name: name)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(Stopped):
        tracked(tmp_path, "wandb", killed_after=5)
    monkeypatch.setenv("WANDB_MODE", "online")
    tracked(tmp_path, "wandb", resume=True)
    assert [(one["mode"], one["id"]) for one in begun] == [("offline", None), ("online", "abc")]
    assert [(one["project"], one["name"], one["dir"]) for one in begun] == [
        ("m-small", JOB, tmp_path / "tracking")
    ] * 2


def test_a_tracker_that_is_not_installed_is_said_before_any_work(monkeypatch) -> None:
    monkeypatch.setattr("adcommon.errors.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"uv pip install 'adcommon\[wandb\]'"):
        Settings(track="wandb")
