"""uvicorn around the routes: the socket, slow clients, and a stop that answers what was accepted."""

import asyncio
import logging
import math
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from adcommon.deploy.serve.app import LARGEST_HEAD, Service
from adcommon.deploy.serve.worker import Limits
from adcommon.errors import BadValue

CONNECTIONS = 500
"""At once, fewer than the files that a process may open; more are closed."""
BACKLOG = 2048
"""Connections that wait to be accepted."""
_LINGER_S = 0.5
"""How long an idle connection stays at a stop, for the request that its client may have sent already."""
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def listener(host: str, port: int) -> socket.socket:
    """A socket with the address, not listening yet, so that a mistake is known before a model is loaded.

    Raises:
        BadValue: there is no such address, or another program has it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadValue(f"cannot listen on {host}, port {port}: {reason}; choose others") from None
    return bound


def serve(service: Service, bound: socket.socket, limits: Limits, stop: Callable[[], bool]) -> int:
    """Answer until `stop` says so, then finish what was accepted; how many requests were answered.

    What takes longer than `limits.timeout_s` then is given up, and uvicorn logs how much.
    """
    config = uvicorn.Config(
        service.app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_keep_alive=math.ceil(limits.timeout_s),
        timeout_graceful_shutdown=math.ceil(limits.timeout_s),
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # not a line for each malformed request
    server = _Server(config)

    async def until_stopped() -> None:
        serving = asyncio.create_task(server.serve([bound]))
        while not serving.done():
            await asyncio.wait([serving], timeout=0.1)
            service.stopping = server.should_exit = stop()
        await serving

    asyncio.run(until_stopped())
    return server.server_state.total_requests


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's."""
        yield


class _Connection(H11Protocol):
    """Ends a connection whose next request has no whole head within the time."""

    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(_TOO_MANY)
            transport.close()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def shutdown(self) -> None:
        if self._idle:
            self.loop.call_later(_LINGER_S, self._shutdown)
        else:
            super().shutdown()

    def _shutdown(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if not self._idle:
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.timeout_keep_alive, self._too_slow)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self.conn.trailing_data[0]:  # a part of a head
            self.transport.write(_TOO_SLOW)
        self.transport.close()
