"""Run by test_many.py in a network of its own: two Ray nodes, a prediction, two kills.

See ../training/ray_cluster.py for why.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ray.cluster_utils import Cluster

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.many.predict import predict_many
from adcommon.deploy.many.shards import SHARDS, Worker
from adcommon.deploy.model import Model
from adcommon.deploy.rows import file_digest
from adcommon.io.cluster import connect
from adcommon.types.prediction import Prediction

NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
SHARD = 5


def load(log: Path) -> tuple[Model, str]:
    """A model that takes a while, and writes down which process scores a shard."""

    def brightness(pixels: np.ndarray) -> Prediction:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        maps = pixels.mean(axis=3, dtype=np.float32) / 255
        return Prediction(maps.mean(axis=(1, 2)), maps)

    return Model(brightness, Preprocess(image_size=16), {"method": "brightness"}, threshold=0.5), "cpu"


def predict(listing: str, out: Path, address: str) -> None:
    connect(address)
    log = out.with_name("scored")
    worker = Worker(
        load=lambda: load(log),
        model=Path(listing),
        model_digest=file_digest(Path(listing)),
        out=out,
        batch_size=SHARD,
        threads=1,
        maps=False,
    )
    found = predict_many(
        worker,
        listing,
        shard=SHARD,
        cpus=1,
        gpus=0.0,
        retries=2,
        resume=True,
        force=False,
        made_with={},
        stop=lambda: False,
    )
    sys.exit(f"not written: {found.unwritten}" if found.unwritten else 0)


def main(listing: str, out: Path) -> None:
    log = out.with_name("scored")

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (out / SHARDS).glob("*.parquet")}

    def begun(count: int) -> list[str]:
        """The processes that began a shard, as soon as there are so many shards, and one more is begun."""
        while len(written()) < count:
            time.sleep(0.02)
        before = len(log.read_text().split())
        while len(log.read_text().split()) == before:
            time.sleep(0.02)
        return log.read_text().split()

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    again = [sys.executable, __file__, listing, str(out), cluster.address]
    driver = subprocess.Popen(again)
    os.kill(int(begun(2)[-1]), signal.SIGKILL)
    print("killed a worker", flush=True)
    begun(5)
    driver.kill()
    driver.wait()
    kept = written()
    print(f"killed the driver, {len(kept)} shards are written", flush=True)
    code = subprocess.run(again, timeout=120).returncode
    cluster.shutdown()
    assert len(kept) >= 5
    assert kept.items() <= written().items()  # none is written again
    sys.exit(code)


if __name__ == "__main__":
    listing, out, *address = sys.argv[1:]
    predict(listing, Path(out), address[0]) if address else main(listing, Path(out))
