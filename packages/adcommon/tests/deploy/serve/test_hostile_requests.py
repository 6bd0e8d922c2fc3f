"""What strangers send: each try gets a 4xx answer and no traceback, and the next client is served."""

import io
import json
import logging
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adcommon.deploy.serve import server as server_module
from adcommon.deploy.serve.worker import Limits
from adcommon.io.decoding import MAX_MEGAPIXELS_VARIABLE

PREDICT, INFER = "/v1/models/part/predict", "/v2/models/part/infer"
LIMITS = Limits(queue=4, request_bytes=100_000, timeout_s=1.0)


def bomb(side: int) -> bytes:
    """A PNG file that says it is so large, with hardly any data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def post(path: str, content: bytes, kind: str | None = None, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in headers.items())]
    if "transfer-encoding" not in headers and "content-length" not in headers:
        lines.append(f"content-length: {len(content)}")
    lines += [] if kind is None else [f"content-type: {kind}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *lines]).encode() + b"\r\n\r\n"


def v2(**changed: Any) -> bytes:
    tensor = {"name": "pixels", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3], **changed}
    return post(INFER, json.dumps({"inputs": [tensor]}).encode())


def part(head: str, content: bytes = b"x") -> bytes:
    whole = b"--xx\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n--xx--\r\n"
    return post(PREDICT, whole, "multipart/form-data; boundary=xx")


FILE = 'Content-Disposition: form-data; name="f"; filename="a"'
TRIES = {
    "no http": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
    "a huge header": (get("/health", "x: " + "a" * 100_000), 431),
    "many headers": (get("/health", *("x: y" for _ in range(20_000))), 431),
    "a line break in a path": (b"GET /a\x00b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "a path out of the routes": (get("/../../etc/passwd"), 404),
    "a name that leads elsewhere": (get("/v1/models/..%2f..%2fetc%2fpasswd"), 404),
    "a name of dots": (post("/v1/models/../predict", b"x"), 404),
    "a name with a null": (get("/v1/models/part%00"), 404),
    "a name that is no text": (get("/v1/models/%ff%fe"), 404),
    "a long name": (get(f"/v1/models/{'a' * 5000}"), 404),
    "another method": (b"PUT /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 405),
    "json for an image": (post(PREDICT, b"{}", "application/json"), 415),
    "html for an image": (post(PREDICT, b"<svg/>", "text/html"), 415),
    "nothing": (post(PREDICT, b""), 400),
    "svg": (post(PREDICT, b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"), 422),
    "postscript": (post(PREDICT, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png"), 422),
    "a cut png": (post(PREDICT, bomb(8)), 422),
    "a pixel bomb": (post(PREDICT, bomb(30_000)), 422),
    "a picture of no pixels": (post(PREDICT, bomb(0)), 422),
    "announced too large": (post(PREDICT, b"x", **{"content-length": "99999999999"}), 413),
    "too large in chunks": (
        post(
            PREDICT,
            b"10000\r\n" + b"x" * 0x10000 + b"\r\n10000\r\n" + b"x" * 0x10000,
            **{"transfer-encoding": "chunked"},
        ),
        413,
    ),
    "a negative length": (post(PREDICT, b"x", **{"content-length": "-1"}), 400),
    "two lengths": (get("/health", "content-length: 1", "content-length: 2"), 400),
    "a chunk of no size": (post(PREDICT, b"zz\r\n", **{"transfer-encoding": "chunked"}), 400),
    "another map": (post(f"{PREDICT}?map=../../x", b"x"), 400),
    "a picture of two": (
        post(
            PREDICT,
            b"--xx\r\n%b\r\n\r\nx\r\n--xx\r\n%b\r\n\r\nx\r\n--xx--\r\n" % (FILE.encode(), FILE.encode()),
            "multipart/form-data; boundary=xx",
            accept="image/png",
        ),
        406,
    ),
    "a form without boundary": (post(PREDICT, b"x", "multipart/form-data"), 400),
    "a form that is none": (post(PREDICT, b"x" * 1000, "multipart/form-data; boundary=xx"), 400),
    "a form without files": (part('Content-Disposition: form-data; name="f"'), 400),
    "a part without name": (part("Content-Disposition: form-data"), 400),
    "a part without head": (part("x"), 400),
    "a name of a file that leads elsewhere": (part(FILE.replace('"a"', '"../../../etc/cron.d/x"')), 422),
    "more files than places": (
        post(
            PREDICT,
            b"".join(b"--xx\r\n%b\r\n\r\nx\r\n" % FILE.encode() for _ in range(9)) + b"--xx--\r\n",
            "multipart/form-data; boundary=xx",
        ),
        400,
    ),
    "no json": (post(INFER, b"\xff\xfe"), 400),
    "deep json": (post(INFER, b"[" * 90_000), 400),
    "deep data": (
        post(
            INFER,
            b'{"inputs":[{"name":"pixels","shape":[1,1,1,3],"datatype":"UINT8","data":'
            + b"[" * 900
            + b"]" * 900
            + b"}]}",
        ),
        400,
    ),
    "another input": (v2(name="x"), 400),
    "another type": (v2(datatype="FP32"), 400),
    "a shape that is not the data's": (v2(shape=[1, 2, 1, 3]), 400),
    "a shape of terabytes": (v2(shape=[2**20, 2**20, 2**20, 3]), 400),
    "a shape of nothing": (v2(shape=[0, 1, 1, 3], data=[]), 400),
    "data of fractions": (v2(data=[1, 2.5, 3]), 400),
    "data of words": (v2(data=["1", "2", "3"]), 400),
    "data beyond a byte": (v2(data=[1, 2, 300]), 400),
    "data beyond any number": (v2(data=[1, 2, 10**30]), 400),
    "ragged data": (v2(data=[[1], [2, 3]]), 400),
    "more tensors than places": (v2(shape=[9, 1, 1, 3], data=[0] * 27), 413),
    "an unknown output": (
        post(INFER, v2().partition(b"\r\n\r\n")[2][:-1] + b',"outputs":[{"name":"__class__"}]}'),
        400,
    ),
    "a head that stops": (b"GET /health HTTP/1.1\r\nhost", 408),
    "a body that stops": (post(PREDICT, b"x", **{"content-length": "100"}), 408),
}


@pytest.fixture(scope="module")
def _few_pixels() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MAX_MEGAPIXELS_VARIABLE, "1")
        yield


@pytest.mark.usefixtures("_few_pixels")
def test_every_try_is_refused_and_the_next_client_is_served(
    start: Callable[..., Any], photo: Callable[..., bytes], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server = start(LIMITS)
    before = sorted(tmp_path.rglob("*"))
    found = {}
    waiting = {}
    for name, (words, _) in TRIES.items():
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        try:
            connection.sendall(words)
        except ConnectionError:  # it was answered before it was read
            pass
        waiting[name] = connection
        if "stops" not in name:
            found[name] = _status(waiting.pop(name))
    for name, connection in waiting.items():
        found[name] = _status(connection)
    assert found == {name: status for name, (_, status) in TRIES.items()}
    assert server.ask(PREDICT, photo()).json["results"][0]["decision"] == "anomalous"
    assert server.service.models["part"].worker.held == 0
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []
    assert sorted(tmp_path.rglob("*")) == before


def _status(connection: socket.socket) -> int:
    with connection, io.BytesIO() as said:
        try:
            while b"\r\n" not in said.getvalue() and (some := connection.recv(4096)):
                said.write(some)
        except ConnectionResetError:
            pass
        words = said.getvalue().split()
        return int(words[1]) if len(words) > 1 else 0


def test_a_client_that_sends_a_byte_now_and_then_is_not_waited_for(start: Callable[..., Any]) -> None:
    server = start(LIMITS)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for _ in range(12):  # a second and a half, in which something comes all the time
            try:
                connection.sendall(b"G")
            except ConnectionError:
                break
            server.stop.wait(0.125)
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_more_connections_than_may_be_open_are_closed(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS", 3)
    server = start(LIMITS)
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
    assert server.ask("/health").status == 503
    for connection in idle:
        connection.close()
    assert server.ask("/health").status == 200
