"""What a server answers, to whom, and what becomes of what it accepted."""

import base64
import http.client
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.routing import Route

from adcommon.deploy.inputs import decode
from adcommon.deploy.model import Model
from adcommon.deploy.regions import Region, regions
from adcommon.deploy.serve import served as served_module
from adcommon.deploy.serve.served import Served, named, watched
from adcommon.deploy.serve.worker import Limits
from adcommon.testing.commands import refused
from adcommon.types.prediction import Prediction

PREDICT, INFER = "/v1/models/part/predict", "/v2/models/part/infer"
Photo = Callable[..., bytes]
Start = Callable[..., Any]


def form(**files: bytes) -> tuple[bytes, str]:
    parts = [
        b'--xx\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), content)
        for name, content in files.items()
    ]
    return b"".join(parts) + b"--xx--\r\n", "multipart/form-data; boundary=xx"


def test_an_image_is_answered_as_the_model_answers(start: Start, model: Model, photo: Photo) -> None:
    server = start()
    for value in (255, 10):
        wanted = model.predict(photo(value))
        said = server.ask(PREDICT, photo(value)).json
        assert said["model"] == "part"
        (one,) = said["results"]
        for name in ("score", "p_value", "threshold", "decision", "unfamiliar", "error", "width", "height"):
            assert one[name] == getattr(wanted, name), name
        assert wanted.anomaly_map is not None
        assert one["regions"] == [asdict(region) for region in regions(wanted.anomaly_map, 0.2)]
        assert one["decision"] == ("anomalous" if value == 255 else "normal")
        assert bool(one["regions"]) == (value == 255)


def test_several_images_are_answered_in_their_order_and_a_broken_one_by_its_reason(
    start: Start, photo: Photo
) -> None:
    server = start()
    content, kind = form(a=photo(255), b=b"no image", c=photo(0))
    answer = server.ask(PREDICT, content, content_type=kind)
    assert answer.status == 200
    results = answer.json["results"]
    assert [one["name"] for one in results] == ["a", "b", "c"]
    assert [one["decision"] for one in results] == ["anomalous", "unknown", "normal"]
    assert "none of the formats" in results[1]["error"]
    answer = server.ask(PREDICT, b"no image")
    assert answer.status == 422
    assert "none of the formats" in answer.json["results"][0]["error"]
    text = server.ask("/metrics").content.decode()
    assert 'ad_images_total{decision="error",model="part"} 2.0' in text
    assert 'ad_responses_total{code="422"} 1.0' in text


def test_the_picture_of_the_map_comes_alone_or_inside(start: Start, photo: Photo) -> None:
    server = start()
    answer = server.ask(PREDICT, photo(), accept="image/png, */*")
    assert answer.headers["content-type"] == "image/png"
    assert (answer.headers["ad-score"], answer.headers["ad-decision"]) == ("1.0", "anomalous")
    (one,) = server.ask(f"{PREDICT}?map=png", photo()).json["results"]
    head, _, encoded = one["map"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(encoded) == answer.content
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (32, 24)
        assert picture.getpixel((12, 8)) != picture.getpixel((30, 20))


def test_the_v2_protocol_says_the_same_of_pixels(start: Start, model: Model) -> None:
    server = start()
    pixels = np.random.default_rng(0).integers(0, 60, (2, 5, 4, 3), dtype=np.uint8)
    pixels[1, 0, 0] = 255
    tensor = {"name": "pixels", "shape": pixels.shape, "datatype": "UINT8"}
    wanted = model.predict(list(pixels))
    names = ["score", "decision", "map"]
    for data in (pixels.tolist(), pixels.ravel().tolist()):
        asked = {
            "id": "7",
            "inputs": [{**tensor, "data": data}],
            "outputs": [{"name": name} for name in names],
        }
        said = server.ask(INFER, json.dumps(asked).encode()).json
        assert (said["id"], said["model_name"]) == ("7", "part")
        score, decision, maps = said["outputs"]
        assert score["data"] == [result.score for result in wanted]
        assert decision["data"] == [result.decision for result in wanted]
        assert maps["shape"] == [2, 16, 16]
        theirs = np.array([result.network_map for result in wanted])
        assert np.array_equal(np.reshape(maps["data"], (2, 16, 16)).astype(np.float32), theirs)
    known = {output["name"] for output in server.ask("/v2/models/part").json["outputs"]}
    assert known >= set(names)
    assert [server.ask(f"/v2/{path}").status for path in ("health/ready", "models/part/ready")] == [200, 200]


class Held:
    """A model's arithmetic that waits until it is let go, and remembers its batches."""

    def __init__(self, model: Model) -> None:
        self._score, self.batches, self.go = model.score_pixels, [], threading.Event()
        self.go.set()

    def __call__(self, pixels: np.ndarray) -> Prediction:
        self.batches.append(len(pixels))
        assert self.go.wait(20)
        return self._score(pixels)


def together(count: int, ask: Callable[[], Any]) -> tuple[list[Any], list[threading.Thread]]:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return answers, threads


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def test_what_waits_is_scored_together_and_what_does_not_fit_is_told_to_come_back(
    start: Start, model: Model, photo: Photo
) -> None:
    held = Held(model)
    server = start(Limits(queue=5, batch=3, timeout_s=10.0), load=lambda _: replace(model, score_pixels=held))
    held.batches.clear()
    held.go.clear()
    first, threads = together(1, lambda: server.ask(PREDICT, photo()))
    until(lambda: held.batches == [1])
    worker = server.service.models["part"].worker
    rest, more = together(4, lambda: server.ask(PREDICT, photo()))
    until(lambda: len(worker._jobs) == 4)
    busy = server.ask(PREDICT, photo())
    assert (busy.status, busy.headers["retry-after"]) == (429, "1")
    content, kind = form(a=photo(), b=photo())
    assert server.ask(PREDICT, content, content_type=kind).status == 429
    held.go.set()
    for thread in threads + more:
        thread.join(20)
    assert {answer.status for answer in first + rest} == {200}
    assert held.batches == [1, 3, 1]
    assert worker.held == 0
    assert 'ad_busy_total{model="part"} 2.0' in server.ask("/metrics").content.decode()


def test_a_replaced_model_is_served_once_it_is_whole_and_a_broken_one_never(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, held = tmp_path / "part.onnx", Held(model)
    file.write_text("0.5")

    def load(path: Path) -> Model:
        return replace(model, threshold=float(path.read_text(encoding="utf-8")), score_pixels=held)

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(file)

    served = Served("part", file, load, Limits())
    old = served.worker
    with served.accepted() as worker:
        write("0.25")
        served.look()
        assert served.worker is old  # it may still be written
        served.look()
        assert served.worker is not old
        image = decode(Image.new("RGB", (8, 8)), model.preprocess)
        assert worker.submit(image).result(20).threshold == 0.5  # accepted before, and answered by the old
    for broken in ("nan?", None):
        file.unlink() if broken is None else write(broken)
        served.look()
        served.look()
        assert served.worker.model.threshold == 0.25
        assert served.about()["problem"] is not None
    monkeypatch.setattr(served_module, "POLL_S", 0.01)
    with watched([served]):
        write("0.75")
        until(lambda: served.worker.model.threshold == 0.75)
    assert served.about()["problem"] is None


def test_a_token_is_asked_for_where_models_or_images_are_concerned(start: Start, photo: Photo) -> None:
    server = start(token="secret")
    for path in ("/", "/health", "/ready", "/openapi.json"):
        assert server.ask(path).status == 200
    for path in ("/v1/models", "/v2/models/part", "/metrics"):
        assert server.ask(path).status == 401
        assert server.ask(path, authorization="Bearer secre").status == 401
        assert server.ask(path, authorization="Bearer secret").status == 200
    assert server.ask(PREDICT, photo()).status == 401
    assert server.ask(PREDICT, photo(), authorization="Bearer secret").status == 200


def test_the_description_has_every_route_and_every_field(start: Start, photo: Photo) -> None:
    server = start()
    described = server.ask("/openapi.json").json
    routes = {
        (route.path, method)
        for route in server.service.app.routes
        if isinstance(route, Route) and route.path not in ("/", "/docs", "/openapi.json")
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = described["paths"].items()
    assert {(path, method.upper()) for path, methods in paths for method in methods} == routes
    words = {"summary", "description", "parameters", "requestBody", "responses", "security"}
    assert words >= {word for _, methods in paths for about in methods.values() for word in about}
    schemas = described["components"]["schemas"]
    (result,) = server.ask(f"{PREDICT}?map=webp", photo()).json["results"]
    (about,) = server.ask("/v1/models").json["models"]
    for name, said in (
        ("Result", result),
        ("Region", asdict(Region(0, 1, 2, 3, 4, 5.0, 6, 7))),
        ("Model", about),
    ):
        assert set(schemas[name]["properties"]) == set(said)
    for place in re.findall(r'"#/([^"]+)"', json.dumps(described)):
        inner = described
        for key in place.split("/"):
            inner = inner[key]


SERVER = """
import sys, time
import numpy as np
from adcommon.cli.main import main
from adcommon.data.preprocess import Preprocess
from adcommon.deploy import load
from adcommon.deploy.model import Model
from adcommon.types.prediction import Prediction

def score_pixels(pixels):
    time.sleep(0.02)
    return Prediction(pixels.max(axis=(1, 2, 3)).astype(np.float32), None)

load.load = lambda path, **_: Model(score_pixels, Preprocess(image_size=16), {"method": "brightest"})
sys.argv = ["ad", "serve", "part.onnx", "--port", "0", "--queue", "4"]
main()
"""


def test_a_signal_loses_nothing_that_was_accepted(photo: Photo) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline() + process.stdout.readline()
        (port,) = re.findall(r"serving at http://127.0.0.1:(\d+)/", said)
        content, statuses, lost = photo(), [], []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
            while True:
                try:
                    connection.request("POST", PREDICT, content)
                    answer = connection.getresponse()
                except ConnectionError:
                    return  # it was not accepted
                try:
                    statuses.append((answer.status, len(answer.read()) > 0))
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        until(lambda: len(statuses) > 40)
        process.send_signal(signal.SIGTERM)
        for thread in clients:
            thread.join(20)
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, lost) == (0, [])
    assert "Traceback" not in error
    assert 200 in {status for status, _ in statuses} <= {200, 429}
    assert all(whole for _, whole in statuses)
    (answered,) = re.findall(r"stopped; (\d+) requests", out)
    assert int(answered) == len(statuses)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no model given"),
        (["a.onnx", "b/a.onnx"], "two models are called a; give one another name: NAME=PATH"),
        (["my part.onnx"], "'my part' is no name for a model"),
        (["part=nothing.onnx"], "cannot read nothing.onnx"),
        (["a.onnx", "--token-file", "none.txt"], "cannot read the token in none.txt"),
        (["a.onnx", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid, port 8080"),
        (["a.onnx", "--host", "x" * 300], "cannot listen on xxx"),
        (["a.onnx", "--port", "65536"], "--port is 65536; expected"),
        (["part", "--threads", "1"], "part is not an exported file, and torch computes it"),
    ],
)
def test_a_mistake_is_named_before_anything_is_served(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("ad", "serve", *words)


def test_a_model_folder_is_called_as_the_category_it_lies_in() -> None:
    assert named("runs/padim/bottle/model") == ("bottle", Path("runs/padim/bottle/model"))
    assert named("line-1=runs/x/model") == ("line-1", Path("runs/x/model"))
