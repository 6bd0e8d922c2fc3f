"""Benchmarks are run by hand, and seldom: here each once, at the smallest sizes, so that none is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adcommon.testing.commands import succeed
from adcommon.testing.trees import make_mvtec

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALLEST = {
    "bench_diffusion": "--network tiny --batch 1 --rounds 1",
    "bench_evaluation": "--exact 20 --bounded 20 --plot PLOT.svg",
    "bench_inctrl": "--model CLIP.json --layers 1 2 --queries 1 --steps 1 --batch-size 2 --images 6",
    "bench_loading": "--count 4",
    "bench_metrics": "",
    "bench_neighbours": "--patches 500 --channels 8 --queries 10 --chosen 5 --rounds 1",
    "bench_predict": "MODEL --images 20",
    "bench_realnet": "--size 64 --batch 4 --rounds 1",
    "bench_realnet_train": "--recipe quickstart --batch 2 --rounds 1",
    "bench_resad": "--batch 4 --images 2 --rounds 1 --encode",
    "bench_serve": "--requests 4 --concurrency 1",
    "bench_train_step": "--recipe quickstart --batch 2 --rounds 1 --also kept bf16",
    "bench_uniad": "--images 2 --rounds 2 --size 128",
}
LEFT_OUT = {"bench_precision", "bench_runtimes"}
"""They take the quick start's models, which are trained for minutes."""
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"width": 64, "heads": 1, "layers": 2},
}


def test_every_benchmark_is_known_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("bench_*.py")} == SMALLEST.keys() | LEFT_OUT


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    words = SMALLEST[name].split()
    if "MODEL" in words:
        make_mvtec(tmp_path / "mvtec", categories=("bottle",), train=8)
        small = "--backbone test_efficientnet --weights random --image-size 64 --crop-size 64 --device cpu"
        place = ("--dataset", "mvtec", "--data-root", tmp_path, "--category", "bottle")
        succeed("padim-train", *place, "--out", tmp_path / "run", *small.split())
        words[0] = str(tmp_path / "run" / "bottle" / "model")
    (tmp_path / "CLIP.json").write_text(json.dumps(CLIP))
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
