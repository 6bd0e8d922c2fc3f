"""What is read from a request: bounded in bytes and time, and never a path."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from adcommon.deploy.serve.worker import Limits
from adcommon.io.text import printable

_FIELDS = 16
"""Of a form, besides its files."""
_LONGEST_NAME = 200
Photo = tuple[str | None, bytes]
"""A client's name for it, if it gave one, and what the file holds."""


async def body(request: Request, limits: Limits) -> bytes:
    """The whole of a request's body.

    Raises:
        HTTPException: it is too large, or comes too slowly.
    """
    chunks = []
    async for chunk in _arriving(request, limits):
        chunks.append(chunk)
    return b"".join(chunks)


async def photos(request: Request, limits: Limits) -> list[Photo]:
    """The images of a request: the files of a form, or the one that is its body.

    Raises:
        HTTPException: there are none, too many or something else; or as `body`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _files(request, limits)
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise HTTPException(
            415,
            f"the body is {kind[:100]!a}; expected multipart/form-data with files, or the bytes of an image",
        )
    content = await body(request, limits)
    if not content:
        raise HTTPException(400, "the body is empty; expected the bytes of an image")
    return [(None, content)]


async def _files(request: Request, limits: Limits) -> list[Photo]:
    parser = MultiPartParser(
        request.headers, _arriving(request, limits), max_files=limits.queue, max_fields=_FIELDS
    )
    parser.spool_max_size = limits.request_bytes + 1  # nothing is written to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    found: list[Photo] = []
    for value in (value for _, value in form.multi_items()):
        if isinstance(value, UploadFile):
            name = printable(value.filename or "")[:_LONGEST_NAME]
            found.append((name, await value.read()))
    await form.close()
    if not found:
        raise HTTPException(400, "the form has no files; expected one or several, such as -F image=@part.png")
    return found


async def _arriving(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    large = HTTPException(413, f"the body has more than {limits.request_bytes} bytes, the limit")
    announced = request.headers.get("content-length", "0")
    if int(announced) > limits.request_bytes:
        raise large
    total = 0
    end = asyncio.get_running_loop().time() + limits.timeout_s
    try:
        chunks = request.stream()
        while True:
            async with asyncio.timeout_at(end):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            total += len(chunk)
            if total > limits.request_bytes:
                raise large
            yield chunk
    except TimeoutError:
        headers = {"connection": "close"}
        raise HTTPException(408, f"the body did not arrive in {limits.timeout_s:g} s", headers) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
