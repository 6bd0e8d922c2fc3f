"""Trainings on a GPU: they begin as on the CPU, go on where they were stopped, and leave models that predict.

    uv run pytest -m gpu

runs these, and of every package the golden files of what a GPU computes. On the CPU the same tests run too,
the quick ones always, the others with `-m slow`.
"""

import signal
from pathlib import Path

import pytest
import torch
from trainings import FEW_SHOT, PREDICTS, TRAININGS

import adcommon as ad
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.models.backbones import FeaturePyramid
from adcommon.models.feature_store import cached_features
from adcommon.testing.commands import read_table, succeed
from adcommon.testing.processes import SignalWhenSaving, Started
from adcommon.testing.runs import assert_same_bits
from adcommon.testing.trees import make_mvtec
from adcommon.testing.waits import waits
from adcommon.training.devices import start
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.records import Record

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(
    params=[pytest.param("cuda:0", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)]
)
def place(request: pytest.FixtureRequest) -> str:
    """The device of a command."""
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_mvtec(root / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12)
    make_mvtec(root / "VisA_pytorch" / "1cls", categories=("candle",), train=6, seed=3)
    return root


def losses(out: Path) -> list[float]:
    (table,) = out.rglob("metrics.csv")
    return [float(row["loss"]) for row in read_table(table) if row.get("loss")]


def scores(command: str, out: Path, data: Path, device: str) -> list[float]:
    """What the model of a training says of test images."""
    (model,) = {path.parent for path in out.rglob("model/config.json")}
    references, category = None, None
    if command in FEW_SHOT:
        references, category = data / "VisA_pytorch/1cls/candle/train/good", "candle"
    loaded = ad.load(model, references=references, category=category, device=device)
    images = sorted((data / "mvtec_anomaly_detection/bottle/test").rglob("*.png"))
    return [result.score for result in loaded.predict(images)]


@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_begins_as_on_the_cpu_and_its_model_predicts(
    command: str, place: str, data: Path, tmp_path: Path
) -> None:
    words = [*TRAININGS[command].split(), "--data-root", data]
    succeed(command, *words, "--device", place, "--out", tmp_path / "there")
    succeed(command, *words, "--device", "cpu", "--out", tmp_path / "here")
    there, here = losses(tmp_path / "there"), losses(tmp_path / "here")
    assert len(there) == len(here) > 3
    # UniAD draws its jitter and dropout on the device.
    assert there[0] == pytest.approx(here[0], rel=0.05 if command == "uniad-train" else 1e-3)
    assert there == pytest.approx(here, rel=0.2)  # optimisers magnify the rounding of their first steps
    if command in PREDICTS:
        both = [scores(command, tmp_path / "there", data, device) for device in (place, "cpu")]
        assert both[0] == pytest.approx(both[1], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_that_was_stopped_ends_in_the_same_bits(
    command: str, place: str, data: Path, tmp_path: Path
) -> None:
    words = [
        *TRAININGS[command].split(),
        "--data-root",
        data,
        "--device",
        place,
        "--save-every",
        "2",
        "--deterministic",
    ]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    succeed(command, *words, "--out", whole)
    (table,) = whole.rglob("metrics.csv")
    signalled = SignalWhenSaving(stopped / table.relative_to(whole), signal.SIGTERM)
    done = Started(command, *words, "--out", stopped, before=signalled).wait()
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert len(losses(stopped)) < len(losses(whole))
    succeed(command, *words, "--out", stopped, "--resume")
    assert_same_bits(whole, stopped)


@pytest.mark.parametrize(
    ("command", "precision"),
    [
        *(
            (command, "bf16")
            for command in ("recontrast-train", "uniad-train", "realnet-train", "resad-train")
        ),
        *(
            (command, "fp16")
            for command in ("recontrast-train", "uniad-train", "realnet-train", "resad-train")
        ),
    ],
)
def test_half_precision_stays_near_full(
    command: str, precision: str, place: str, data: Path, tmp_path: Path
) -> None:
    if precision == "fp16" and place == "cpu":
        pytest.skip("fp16 needs a GPU")
    words = [*TRAININGS[command].split(), "--data-root", data, "--device", place]
    succeed(command, *words, "--out", tmp_path / "full")
    succeed(command, *words, "--precision", precision, "--out", tmp_path / "half")
    assert losses(tmp_path / "half")[0] == pytest.approx(losses(tmp_path / "full")[0], rel=0.05)
    full, half = (scores(command, tmp_path / name, data, place) for name in ("full", "half"))
    assert half == pytest.approx(full, rel=0.1)


@pytest.mark.parametrize("command", ["recontrast-train", "realnet-train", "resad-train"])
def test_a_deterministic_training_gives_the_same_bits_twice(
    command: str, place: str, data: Path, tmp_path: Path
) -> None:
    words = [*TRAININGS[command].split(), "--data-root", data, "--device", place, "--deterministic"]
    for name in "ab":
        succeed(command, *words, "--out", tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_what_was_trained_there_is_exported(place: str, data: Path, tmp_path: Path) -> None:
    words = [*TRAININGS["recontrast-train"].split(), "--data-root", data, "--device", place]
    succeed("recontrast-train", *words, "--out", tmp_path / "run")
    (model,) = {path.parent for path in (tmp_path / "run").rglob("model/config.json")}
    succeed("ad", "export", "--model", model, "--out", tmp_path / "model.onnx")
    images = sorted((data / "mvtec_anomaly_detection/bottle/test").rglob("*.png"))
    exported = [result.score for result in ad.load(tmp_path / "model.onnx").predict(images)]
    assert exported == pytest.approx(scores("recontrast-train", tmp_path / "run", data, place), rel=1e-3)


def test_kept_features_are_those_of_the_network_and_lie_where_it_does(
    device: torch.device, data: Path
) -> None:
    images = sorted((data / "mvtec_anomaly_detection/bottle/train/good").glob("*.png"))
    dataset = AnomalyDataset(
        [Record(image, "bottle", label=0) for image in images], Preprocess(image_size=64)
    )
    network = FeaturePyramid("resnet18", None, strides=(4, 8)).to(device)
    store = cached_features(network, dataset, len(dataset), memory_bytes=2**20)
    wanted = [5, 0, 5]
    kept, direct = store.batch(wanted), network(dataset.batch(range(len(dataset))).images.to(device))
    for ours, all_of_them in zip(kept, direct, strict=True):
        assert ours.device.type == device.type
        torch.testing.assert_close(ours, all_of_them[wanted], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["recontrast", "uniad", "realnet", "inctrl", "resad", "diffusion"])
def test_a_step_never_waits_for_the_device(
    method: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu_parts import SUBJECTS

    subject = SUBJECTS[method](device, True)
    step = subject.ours(start(torch.device(device.type), Arithmetic(deterministic=False)), False, True)
    step()  # the first one fills caches and moves what stays on the device
    with waits() as found:
        step()
    # What an optimiser counts lies on the host, where torch asks for it.
    assert [place for place in found if not place.endswith("optimiser.step()")] == []
