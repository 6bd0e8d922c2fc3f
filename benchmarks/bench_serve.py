"""`ad serve` under load on this machine: requests a second, tail latency, what was lost, memory.

uv run python benchmarks/bench_serve.py --requests 20000 --concurrency 64
"""

import argparse
import http.client
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adcommon.testing.trees import make_folder


def exported(folder: Path) -> Path:
    """PaDiM on a light backbone, trained on a few drawn photographs, as an ONNX file."""
    make_folder(folder / "photos", good=30)
    train = ["padim-train", "--data", f"{folder}/photos", "--recipe", "small", "--image-size", "128"]
    subprocess.run([*train, "--out", f"{folder}/runs"], check=True, capture_output=True)
    export = ["ad", "export", f"{folder}/runs/photos/model", "--out", f"{folder}/part.onnx"]
    subprocess.run(export, check=True, capture_output=True)
    return folder / "part.onnx"


@contextmanager
def serving(model: Path) -> Iterator[int]:
    """The port of a server in a process of its own."""
    command = [str(Path(sys.executable).with_name("ad")), "serve", f"part={model}", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"serving at \S+:(\d+)/", line):
                yield int(found[1])
                break
        else:
            raise SystemExit(f"the server ended: {process.wait()}")
    finally:
        process.terminate()
        print(process.communicate()[0].strip())


def memory(port: int) -> float:
    """Resident, MB."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = re.findall(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float((found or ["nan"])[0]) / 1e6  # Linux alone says it


def load(
    port: int, content: bytes, requests: int, concurrency: int
) -> tuple[list[float], Counter[str], float]:
    """Seconds of each answer, how often which status or error came, and seconds in all."""
    latencies: list[float] = []
    outcomes: Counter[str] = Counter()
    tickets = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                if next(tickets, None) is None:
                    return
            began = time.perf_counter()
            try:
                connection.request("POST", "/v1/models/part/predict", content)
                answer = connection.getresponse()
                answer.read()
                outcome = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
                connection.close()
            with lock:
                outcomes[outcome] += 1
                latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    clients = [threading.Thread(target=client) for _ in range(concurrency)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return latencies, outcomes, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="file of `ad export`; default: PaDiM at 128 pixels")
    parser.add_argument("--image", type=Path, help="that is sent; default: a drawn one of 64 pixels")
    parser.add_argument("--requests", type=int, default=500, help="at each concurrency, at most 100,000")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()
    requests = min(options.requests, 100_000)

    with tempfile.TemporaryDirectory() as folder:
        model = options.model or exported(Path(folder))
        image = options.image or make_folder(Path(folder) / "sent", good=1) / "good/000.png"
        content = image.read_bytes()
        with serving(model) as port:
            load(port, content, 20, 2)
            for concurrency in options.concurrency:
                before = memory(port)
                latencies, outcomes, seconds = load(port, content, requests, concurrency)
                p50, p99 = 1000 * np.percentile(latencies, [50, 99])
                print(
                    f"concurrency {concurrency}: {requests / seconds:.0f} requests/s, p50 {p50:.1f} ms, "
                    f"p99 {p99:.1f} ms, {dict(outcomes)}, memory {before:.0f} -> {memory(port):.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
