"""A server in a thread of this process, on a free port of the loopback, and a model that needs no file."""

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.deploy.model import Model
from adcommon.deploy.serve.app import Service
from adcommon.deploy.serve.served import Served
from adcommon.deploy.serve.server import listener, serve
from adcommon.deploy.serve.worker import Limits
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import calibrate


def red(pixels: np.ndarray) -> Prediction:
    maps = pixels[..., 0].astype(np.float32) / 255
    return Prediction(maps.max(axis=(1, 2)), maps)


@pytest.fixture
def model() -> Model:
    """What is redder than a fifth is anomalous."""
    known = calibrate([0.2] * 19, 0.05, peaks=[0.2] * 19)
    config = {"method": "red", "category": "part"}
    return Model(red, Preprocess(image_size=16), config, known.decision, known, "part")


@pytest.fixture
def photo() -> Callable[..., bytes]:
    """A PNG file, black with a red spot."""

    def draw(value: int = 255, *, size: tuple[int, int] = (32, 24), kind: str = "PNG") -> bytes:
        pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        pixels[4:12, 8:16, 0] = value
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()

    return draw


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Running:
    """A server that runs, and one client of it after the other."""

    service: Service
    port: int
    stop: threading.Event
    thread: threading.Thread

    def ask(self, path: str, content: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if content is None else "POST", path, content, named)
        answer = connection.getresponse()
        said = Answer(
            answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        )
        connection.close()
        return said


@pytest.fixture
def start(model: Model, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Serve the model, or what `load` makes of the file `part`."""
    running: list[Running] = []
    (tmp_path / "part").touch()

    def begin(
        limits: Limits | None = None, token: str | None = None, load: Callable[[Path], Model] | None = None
    ) -> Running:
        limits = limits or Limits(timeout_s=10.0)
        service = Service(
            [Served("part", tmp_path / "part", load or (lambda _: model), limits)], limits, token
        )
        bound, stop = listener("127.0.0.1", 0), threading.Event()
        thread = threading.Thread(target=serve, args=(service, bound, limits, stop.is_set))
        bound.listen()
        running.append(Running(service, bound.getsockname()[1], stop, thread))
        thread.start()
        return running[-1]

    yield begin
    for each in running:
        each.stop.set()
        each.thread.join(20)
        assert not each.thread.is_alive()
