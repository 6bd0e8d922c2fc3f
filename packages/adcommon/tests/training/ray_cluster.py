"""Run by test_launch.py in a network of its own: two Ray nodes, six trainings, two kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from adcommon.training.launch import Launch, run_trials
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def trials(program: str, out: Path) -> list[Trial]:
    return [Trial(f"run{number}", program, out / f"run{number}", ()) for number in range(6)]


def launch(program: str, out: Path, address: str) -> None:
    with StopSignal() as stop:
        failed = run_trials(trials(program, out), Launch(launcher="ray", ray_address=address), out, stop)
    sys.exit(f"failed: {failed}" if failed else 0)


def running(all_trials: list[Trial]) -> Trial:
    """The first that is in the middle, as soon as there is one."""
    while True:
        for trial in all_trials:
            steps = trial.folder / "steps"
            if not trial.finished and steps.exists() and len(steps.read_text()) > 3:
                return trial
        time.sleep(0.05)


def main(program: str, out: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    again = [sys.executable, __file__, program, str(out), cluster.address]
    driver = subprocess.Popen(again)
    victim = running(trials(program, out))
    os.kill(int((victim.folder / "starts").read_text().split()[-1]), signal.SIGKILL)
    print("killed the worker of", victim.name, flush=True)
    while not any(trial.finished for trial in trials(program, out)):
        time.sleep(0.05)
    running(trials(program, out))
    driver.kill()
    print("killed the driver", flush=True)
    driver.wait()
    code = subprocess.run(again, timeout=120).returncode
    cluster.shutdown()
    sys.exit(code)


if __name__ == "__main__":
    program, out, *address = sys.argv[1:]
    launch(program, Path(out), address[0]) if address else main(program, Path(out))
