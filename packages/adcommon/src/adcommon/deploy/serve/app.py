"""The routes of the server, as openapi.yaml describes them."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeVar

import yaml
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adcommon import __version__
from adcommon.deploy.inputs import decode
from adcommon.deploy.model import Model
from adcommon.deploy.result import Result
from adcommon.deploy.serve import v2
from adcommon.deploy.serve.answers import PICTURES, Picture, answer, drawn
from adcommon.deploy.serve.bodies import body, photos
from adcommon.deploy.serve.metrics import Metrics
from adcommon.deploy.serve.served import Served
from adcommon.deploy.serve.worker import Busy, Limits, Worker
from adcommon.results.page import filled

T = TypeVar("T")
OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that ask for no token: they say nothing of models or images."""
LARGEST_HEAD = 32 * 1024
"""Of a request, bytes; 300 headers of the usual length."""
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; img-src blob: data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
}


class Service:
    """Models behind routes; `app` is what an ASGI server runs."""

    def __init__(self, models: Sequence[Served], limits: Limits, token: str | None = None) -> None:
        """Nothing is started but the threads that decode.

        Args:
            token: that clients must show; None: nobody is asked.
        """
        self.models: Mapping[str, Served] = {served.name: served for served in models}
        self.metrics = Metrics()
        self.stopping = False
        """Set once no new clients are wanted."""
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="decoding")
        about = yaml.safe_load(files(__package__).joinpath("openapi.yaml").read_text(encoding="utf-8"))
        self.description: dict[str, Any] = {**about, "info": {**about["info"], "version": __version__}}
        routes = [
            Route("/", self._page("serve", "Inspection")),
            Route("/docs", self._page("api", "What the server answers")),
            Route("/openapi.json", self._openapi),
            Route("/health", self._alive),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
            Route("/v1/models", self._list),
            Route("/v1/models/{name}", self._about),
            Route("/v1/models/{name}/predict", self._predict, methods=["POST"]),
            Route("/v2", self._v2_server),
            Route("/v2/health/live", self._alive),
            Route("/v2/health/ready", self._ready),
            Route("/v2/models/{name}", self._v2_about),
            Route("/v2/models/{name}/ready", self._v2_ready),
            Route("/v2/models/{name}/infer", self._v2_infer, methods=["POST"]),
        ]
        handlers: dict[Any, Callable[..., Response]] = {HTTPException: _refusal, Exception: _failure}
        door = Middleware(_Door, token=token, metrics=self.metrics)
        self.app = Starlette(routes=routes, exception_handlers=handlers, middleware=[door])

    async def _predict(self, request: Request) -> Response:
        served = self._model(request)
        inside, alone = _wanted(request)
        with self._accepted(served) as worker:
            given = await photos(request, self._limits)
            if alone is not None and len(given) > 1:
                raise HTTPException(406, "a picture answers one image; several are answered with ?map=")
            with worker.places(len(given) - 1):
                results = await self._scored(served.name, worker, [content for _, content in given])
                if alone is not None:
                    return await self._in_thread(_picture, results[0], given[0][1], worker.model, alone)
                answers = await asyncio.gather(
                    *(
                        self._in_thread(answer, result, name, content, worker.model, inside)
                        for result, (name, content) in zip(results, given, strict=True)
                    )
                )
        status = 422 if all(said["error"] for said in answers) else 200
        return JSONResponse({"model": served.name, "results": answers}, status)

    async def _v2_infer(self, request: Request) -> Response:
        served = self._model(request)
        with self._accepted(served) as worker:
            content = await body(request, self._limits)
            asked, pixels = await self._in_thread(v2.parse, content)
            if len(pixels) > self._limits.queue:
                raise HTTPException(413, f"{len(pixels)} images; expected at most {self._limits.queue}")
            with worker.places(len(pixels) - 1):
                results = await self._scored(
                    served.name, worker, [Image.fromarray(image) for image in pixels]
                )
            return JSONResponse(await self._in_thread(v2.reply, served, asked, results))

    async def _scored(self, name: str, worker: Worker, images: Sequence[bytes | Image.Image]) -> list[Result]:
        preprocess = worker.model.preprocess
        decoded = await asyncio.gather(*(self._in_thread(decode, image, preprocess) for image in images))
        results = await asyncio.gather(*(asyncio.wrap_future(worker.submit(image)) for image in decoded))
        for result in results:
            self.metrics.images.labels(name, "error" if result.error else result.decision).inc()
        return results

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    @contextmanager
    def _accepted(self, served: Served) -> Iterator[Worker]:
        """A worker with a place for one image, for as long as a request takes."""
        start = time.perf_counter()
        try:
            with served.accepted() as worker:
                yield worker
        except Busy:
            self.metrics.refused.labels(served.name).inc()
            words = f"{self._limits.queue} images of {served.name} are waiting; come back in a second"
            raise HTTPException(429, words, {"retry-after": "1"}) from None
        self.metrics.seconds.labels(served.name).observe(time.perf_counter() - start)

    def _model(self, request: Request) -> Served:
        name = str(request.path_params["name"])
        if name not in self.models:
            raise HTTPException(
                404, f"no model {name[:100]!a} is served; there are: {', '.join(self.models)}"
            )
        return self.models[name]

    def _page(self, template: str, title: str) -> Callable[[Request], Awaitable[Response]]:
        text = filled(template, {"title": title})

        async def page(request: Request) -> Response:
            return HTMLResponse(text, headers=_PAGE_HEADERS)

        return page

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(self.description)

    async def _alive(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": not self.stopping}, 503 if self.stopping else 200)

    async def _metrics(self, request: Request) -> Response:
        for name, served in self.models.items():
            self.metrics.waiting.labels(name).set(served.worker.held)
            self.metrics.loaded.labels(name).set(served.loaded.timestamp())
            self.metrics.stale.labels(name).set(served.problem is not None)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"models": [served.about() for served in self.models.values()]})

    async def _about(self, request: Request) -> Response:
        return JSONResponse(self._model(request).about())

    async def _v2_server(self, request: Request) -> Response:
        return JSONResponse({"name": "adcommon", "version": __version__, "extensions": []})

    async def _v2_about(self, request: Request) -> Response:
        return JSONResponse(v2.metadata(self._model(request)))

    async def _v2_ready(self, request: Request) -> Response:
        return JSONResponse({"name": self._model(request).name, "ready": True})


class _Door:
    """Lets in who shows the token, and counts the answers."""

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(str(message["status"])).inc()
            await send(message)

        if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEAD:
            await JSONResponse({"error": "the head is too large"}, 431)(scope, receive, counted)
            return
        if self._expected is not None and scope["path"] not in OPEN:
            shown = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._expected):
                said = {"error": "expected the header Authorization: Bearer TOKEN"}
                await JSONResponse(said, 401, {"www-authenticate": "Bearer"})(scope, receive, counted)
                return
        await self._app(scope, receive, counted)


def _wanted(request: Request) -> tuple[Picture | None, Picture | None]:
    """The picture that is wanted inside the JSON (?map=), and the one wanted in its place (Accept)."""
    asked = request.query_params.get("map")
    if asked is not None and asked not in PICTURES:
        raise HTTPException(400, f"map is {asked[:40]!a}; expected {' or '.join(PICTURES)}")
    inside = next((kind for kind in PICTURES if kind == asked), None)
    for part in request.headers.get("accept", "").split(","):
        accepted = part.partition(";")[0].strip().lower()
        if accepted in ("application/json", "*/*"):
            break
        for kind in PICTURES:
            if accepted == f"image/{kind}":
                return None, kind
    return inside, None


def _picture(result: Result, content: bytes, model: Model, kind: Picture) -> Response:
    if result.error is not None:
        raise HTTPException(422, result.error)
    picture = drawn(result, content, model, kind)
    if picture is None:
        raise HTTPException(406, f"{model.method} has no maps; ask for application/json")
    headers = {"ad-score": repr(result.score), "ad-decision": result.decision}
    return Response(picture, media_type=f"image/{kind}", headers=headers)


def _refusal(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its log says why"}, 500)
