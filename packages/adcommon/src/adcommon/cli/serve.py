"""`ad serve`: models behind an address, for programs and for a page in the browser."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.errors import BadValue, require
from adcommon.types.values import AboveZero, NotNegative, Port, Positive, Rate, Runtime

TOKEN_VARIABLE = "AD_SERVE_TOKEN"
"""Of the environment."""
_MEGAPIXELS = 25
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    *model: str,
    host: str = "127.0.0.1",
    port: Port = 8080,
    token_file: Path | None = None,
    max_batch: Positive = 16,
    max_wait_ms: NotNegative = 2.0,
    queue: Positive = 128,
    max_upload_mb: Positive = 32,
    max_megapixels: Annotated[Positive | None, Parameter(show_default=False)] = None,
    timeout: AboveZero = 30.0,
    workers: Positive = 2,
    category: str | None = None,
    references: Path | None = None,
    false_alarm_rate: Rate | None = None,
    device: str | None = None,
    runtime: Runtime | None = None,
    threads: Positive | None = None,
) -> None:
    """Answer over HTTP what models say of images, until SIGTERM or Ctrl-C; then finish what was accepted.

    POST an image to /v1/models/NAME/predict; / is a page to drop photographs on, /docs says the rest. A model
    whose files are replaced is loaded anew. Needs `uv pip install 'adcommon[onnx,serve]'`.

    Args:
        model: `model` folders that trainings left, or files of `ad export`; NAME=PATH gives one a name.
            [default name: the file's, or of RUN/CATEGORY/model the category]
        host: Address to listen on; 0.0.0.0 for all networks of this machine.
        port: 0 takes a free one.
        token_file: File with the token that clients must show (Authorization: Bearer TOKEN).
            [default: $AD_SERVE_TOKEN, else none]
        max_batch: Images that a model scores at once.
        max_wait_ms: Milliseconds that an image waits for others that have arrived, to be scored with them.
        queue: Images of a model that are accepted and not answered yet; more are answered 429.
        max_upload_mb: Largest request, millions of bytes.
        max_megapixels: Largest picture that is decoded, in millions of pixels.
            [default: $AD_MAX_MEGAPIXELS, else 25]
        timeout: Seconds that a request may take to arrive, and a stop to finish what was accepted.
        workers: Threads that decode images and draw maps.
        category: Which of the categories a model knows; for methods that ask.
        references: Folder of normal images to compare with; for few-shot methods.
        false_alarm_rate: Rate at which normal images may be called anomalous. [default: the training's]
        device: Device by its torch name, or onnxruntime's. [default: of a model folder the first GPU if there
            is one, of a file the CPU]
        runtime: What computes files of `ad export`: `onnxruntime`, `openvino`, or `auto`, the faster one.
            [default: onnxruntime]
        threads: Threads that compute a file of `ad export`. [default: all cores]
    """
    require("serve", "starlette", "uvicorn", "python_multipart", "prometheus_client")
    import logging

    from adcommon.deploy.load import load
    from adcommon.deploy.model import Model
    from adcommon.deploy.serve.app import Service
    from adcommon.deploy.serve.served import Served, named, watched
    from adcommon.deploy.serve.server import BACKLOG, listener
    from adcommon.deploy.serve.server import serve as answer
    from adcommon.deploy.serve.worker import Limits
    from adcommon.io.decoding import MAX_MEGAPIXELS_VARIABLE, allow_megapixels
    from adcommon.training.logging import start_logging
    from adcommon.training.stop import StopSignal

    start_logging(None)
    logger = logging.getLogger(__name__)
    if max_megapixels is not None or MAX_MEGAPIXELS_VARIABLE not in os.environ:
        allow_megapixels(max_megapixels or _MEGAPIXELS)
    if not model:
        raise BadValue("no model given; pass a `model` folder, a file of `ad export`, or NAME=PATH")
    paths = [named(word) for word in model]
    if twice := [name for name, _ in paths if [other for other, _ in paths].count(name) > 1]:
        raise BadValue(f"two models are called {twice[0]}; give one another name: NAME=PATH")
    token = _token(token_file)
    bound = listener(host, port)
    if token is None and host not in _LOOPBACK:
        logger.warning("anybody who reaches %s may use the models; --token-file asks for a token", host)

    def loaded(path: Path) -> Model:
        found = load(
            path, category=category, references=references, device=device, runtime=runtime, threads=threads
        )
        if false_alarm_rate is not None:
            found.decide_at(false_alarm_rate)
        return found

    limits = Limits(
        batch=max_batch,
        wait_s=max_wait_ms / 1000,
        queue=queue,
        request_bytes=max_upload_mb * 1_000_000,
        timeout_s=timeout,
        threads=workers,
    )
    models = [Served(name, path, loaded, limits) for name, path in paths]
    for served in models:
        about = served.about()
        print(f"{served.name}: {about['method']}, {served.path}; {about['worth']}")
    bound.listen(BACKLOG)  # who connects from here on is answered
    address = f"[{host}]" if ":" in host else host
    print(f"serving at http://{address}:{bound.getsockname()[1]}/", flush=True)
    with StopSignal() as stop, watched(models):
        answered = answer(Service(models, limits, token), bound, limits, lambda: stop.requested)
    print(f"stopped; {answered} requests were answered")


def _token(file: Path | None) -> str | None:
    """The token that clients must show; None: nobody is asked."""
    where = TOKEN_VARIABLE if file is None else str(file)
    try:
        token = os.environ.get(TOKEN_VARIABLE) if file is None else file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadValue(f"cannot read the token in {file}: {error}") from None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token and token):
        raise BadValue(f"{where} holds no token: expected one word of ASCII characters on one line")
    return token
