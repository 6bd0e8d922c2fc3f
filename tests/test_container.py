"""What deploy/ says of a container, executed as far as that goes without Docker, and what it installs, used.

The Dockerfile's own lines are run, below a temporary folder in the place of the root.
"""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml
from trainings import FEW_SHOT, FLOOR, PREDICTS, TRAININGS

import adcommon as ad
from adcommon.deploy.serve.worker import Limits
from adcommon.testing.commands import read_table, succeed
from adcommon.testing.trees import make_mvtec

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
LINES = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
INSTRUCTIONS = [(line.partition(" ")[0], line.partition(" ")[2]) for line in LINES]
LAST = dict(INSTRUCTIONS)
ENTRY, HEALTH = (json.loads(LAST[name].removeprefix("CMD ")) for name in ("ENTRYPOINT", "HEALTHCHECK"))
LOAD = """
import importlib.util, json, sys
import adcommon as ad
assert not [name for name in ("torch", "scipy", "openvino") if importlib.util.find_spec(name)]
for file in sys.argv[2:]:
    results = ad.load(file).predict(sys.argv[1])
    print(json.dumps([{"score": result.score, "decision": result.decision} for result in results]))
"""
Said = list[tuple[float, str]]
"""Score and decision of each image."""


def build(root: Path) -> None:
    """Do what the first stage says, in a Python without packages, below a folder."""
    venv.create(root / "python", with_pip=True)
    variables = os.environ | {"PATH": f"{root / 'python/bin'}{os.pathsep}{os.environ['PATH']}"}
    variables.pop("VIRTUAL_ENV", None)  # ours
    here = root
    second = [name for name, _ in INSTRUCTIONS].index("FROM", 1)
    for name, rest in INSTRUCTIONS[1:second]:
        if name == "WORKDIR":
            (here := root / rest.lstrip("/")).mkdir()
        elif name == "RUN":
            subprocess.run(rest, shell=True, cwd=here, env=variables, check=True)
        else:
            assert name == "COPY"
            *sources, place = rest.split()
            for source in sources:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, here / place)


def export_all(folder: Path) -> tuple[Path, dict[str, Said]]:
    """Train each method for a moment and export it; some images, and what torch says of them."""
    bottles = (
        make_mvtec(folder / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12) / "bottle"
    )
    candles = make_mvtec(folder / "VisA_pytorch/1cls", categories=("candle",), train=6, seed=3) / "candle"
    said = {}
    for command, flags in (TRAININGS | FLOOR).items():
        if command not in (*PREDICTS, *FLOOR):
            continue
        if command == "resad-train":  # behind a ReLU, the order of values that are equal is each runtime's
            flags = flags.replace("resnet18 --weights random", "tf_efficientnet_lite0.in1k")
        name = command.removesuffix("-train")
        place = ("--data-root", folder, "--device", "cpu", "--out", folder / name)
        succeed(command, *flags.split(), *place)
        (config,) = (folder / name).rglob("model/config.json")
        references = candles / "train/good" if command in FEW_SHOT else None
        model = ad.load(config.parent, references=references, device="cpu")
        scores = [result.score for result in model.predict(bottles / "test")]
        model.threshold = float(np.median(scores))
        ad.export(model, folder / f"{name}.onnx")
        said[name] = [(result.score, result.decision) for result in model.predict(bottles / "test")]
    return bottles / "test", said


def agree(rows: Iterable[Mapping[str, Any]], wanted: Said) -> None:
    rows = list(rows)
    assert [row["decision"] for row in rows] == [decision for _, decision in wanted]
    assert [float(row["score"]) for row in rows] == pytest.approx([score for score, _ in wanted], rel=1e-4)


def test_the_linter_finds_nothing_and_the_parts_fit_together() -> None:
    subprocess.run([Path(sysconfig.get_path("scripts"), "hadolint"), DEPLOY / "Dockerfile"], check=True)
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["inspection"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    port = LAST["EXPOSE"]
    assert job["static_configs"] == [{"targets": [f"inspection:{port}"]}]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert job["authorization"]["credentials_file"] in service["command"]
    assert service["volumes"] == [f"./models:{LAST['VOLUME']}:ro"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Limits.timeout_s
    assert f":{port}/health" in HEALTH[-1]
    assert int(LAST["USER"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_it_installs_runs_every_method_without_torch(tmp_path: Path) -> None:
    build(tmp_path)
    bin = tmp_path / "ad/.venv/bin"
    files = (path for path in bin.parent.rglob("*") if path.is_file() and not path.is_symlink())
    assert sum(path.stat().st_size for path in files) < 200e6

    photos, said = export_all(tmp_path)
    (home := tmp_path / "home").mkdir()
    variables = {"HOME": str(home), "PATH": os.defpath}

    def run(*command: str | Path, code: int = 0) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == code, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    models = [f"{name}.onnx" for name in said]
    lines = run(bin / "python", "-c", LOAD, photos, *models).splitlines()
    for line, wanted in zip(lines, said.values(), strict=True):
        agree(json.loads(line), wanted)
    for name, wanted in said.items():
        out = tmp_path / f"{name}-predicted"
        run(bin / "ad", "predict", photos, "--model", f"{name}.onnx", "--out", out)
        agree(read_table(out / "predictions.csv"), wanted)
        assert (out / "maps/index.html").exists()
        log = tmp_path / f"{name}.csv"
        run(bin / "ad", "watch", photos, "--model", f"{name}.onnx", "--log", log, "--once")
        agree(sorted(read_table(log), key=lambda row: row["path"]), wanted)

    root = f"{tmp_path}/ad/"
    entry = [word.replace("/ad/", root).replace("0.0.0.0", "127.0.0.1") for word in ENTRY]
    command = [*entry, *models, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(line.split()[-1] for line in server.stdout if line.startswith("serving at"))
        host = address.removeprefix("http://").rstrip("/")
        health = [word.replace("/ad/", root).replace(f"127.0.0.1:{LAST['EXPOSE']}", host) for word in HEALTH]
        run(*health)
        for name, wanted in said.items():
            rows = []
            for photo in sorted(photos.rglob("*.png")):
                asked = Request(
                    f"{address}v1/models/{name}/predict", photo.read_bytes(), {"content-type": "image/png"}
                )
                with urlopen(asked) as answer:
                    rows += json.load(answer)["results"]
            agree(rows, wanted)
        server.terminate()
        assert f"stopped; {1 + len(said) * len(rows)} requests were answered" in server.stdout.read()
    assert server.returncode == 0
    run(*health, code=1)
    assert list(home.iterdir()) == []
    message = run(bin / "ad", "predict", photos, "--model", "padim", "--out", "none", code=2)
    assert "needs torch, not installed here: uv pip install 'adcommon[train]'" in message
