"""`benchmarks/gpu.sh` where there is no GPU: tiny sizes, and what fails is written down."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_steps_compute_the_same_and_what_fails_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_parts
    from gpu_notes import Notes
    from gpu_table import table

    made = gpu_parts.SUBJECTS["inctrl"]

    def broken(device: torch.device, tiny: bool) -> object:
        return replace(made(device, tiny), detector=lambda: 1 / 0)

    monkeypatch.setitem(gpu_parts.SUBJECTS, "inctrl", broken)
    gpu_parts.train_steps(Notes(tmp_path, "inctrl", on_gpu=False, seconds=60), "inctrl")
    rows = [json.loads(line) for line in (tmp_path / "inctrl.jsonl").read_text().splitlines()]
    assert [row["way"] for row in rows] == ["reference", *["ours"] * 4, "scoring", "scoring"]
    assert_equal_losses(rows, rel=1e-5)
    part = {"kind": "steps", "about": "inctrl", "device": "CPU", "status": "done", "rows": rows}
    page = table({"header": {"device": "CPU"}, "parts": [part]})
    assert "Training step: CPU" in page
    assert "| inctrl | reference | torch | computed | 2 of 64 px |" in page
    assert page.count("- steps inctrl: ZeroDivisionError: division by zero") == 2


def assert_equal_losses(rows: list[dict], rel: float) -> None:
    """A step that computes something else is not faster."""
    losses = {(row["way"], row["precision"]): row["first_loss"] for row in rows if "first_loss" in row}
    assert losses["ours", "fp32"] == pytest.approx(losses["reference", "torch"], rel=rel)
    assert losses["ours", "bf16"] == pytest.approx(losses["reference", "torch"], rel=max(rel, 1e-2))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_runs_whole_on_a_cpu(tmp_path: Path) -> None:
    asked = ["bash", str(BENCHMARKS / "gpu.sh"), "--out", str(tmp_path / "out")]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert result["header"]["device"].startswith("CPU")
    for part in result["parts"]:
        idle = part["kind"] in ("compiled", "tests")
        assert part["status"] == ("not run: there is no GPU" if idle else "done"), part
        assert [row["error"] for row in part["rows"] if "error" in row] == []
        assert bool(part["rows"]) is not idle
        if part["kind"] == "steps" and part["about"] != "diffusion":
            # UniAD's jitter and dropout are drawn in another order.
            assert_equal_losses(part["rows"], rel=0.1 if part["about"] == "uniad" else 1e-5)
    assert (tmp_path / "out" / "gpu.md").read_text() in done.stdout
