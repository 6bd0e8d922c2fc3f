"""The V2 inference protocol of KServe and Triton, with tensors in JSON: images in, decisions out."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from jaxtyping import UInt8
from msgspec import Meta
from starlette.exceptions import HTTPException

from adcommon.deploy.result import Result
from adcommon.deploy.serve.served import Served

_INPUT = {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
_OUTPUTS = {
    "score": ("FP64", [-1]),
    "decision": ("BYTES", [-1]),
    "p_value": ("FP64", [-1]),
    "map": ("FP32", [-1, -1, -1]),
}
"""Type and shape; the p-value only where it is known, the map only where it is asked for."""
_EXPECTED = "expected one input pixels, UINT8, of shape [images, height, width, 3], RGB"


class Tensor(msgspec.Struct):
    """An input."""

    name: str
    shape: Annotated[list[Annotated[int, Meta(ge=1, le=2**20)]], Meta(min_length=4, max_length=4)]
    datatype: str
    data: list[Any]


class Wanted(msgspec.Struct):
    """An output that is asked for."""

    name: str


class Inference(msgspec.Struct):
    """A request; what else it holds is passed over."""

    inputs: Annotated[list[Tensor], Meta(min_length=1, max_length=1)]
    id: str | None = None
    outputs: list[Wanted] | None = None

    @property
    def names(self) -> list[str]:
        """Of the outputs that are asked for; none: those that cost nothing."""
        return [output.name for output in self.outputs or []]


def metadata(served: Served) -> dict[str, object]:
    """What a model takes and gives."""
    outputs = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in _OUTPUTS.items()]
    platform = f"adcommon_{served.worker.model.method}"
    return {"name": served.name, "platform": platform, "inputs": [_INPUT], "outputs": outputs}


def parse(content: bytes) -> tuple[Inference, UInt8[np.ndarray, "batch height width 3"]]:
    """A request, and the images of its input.

    Raises:
        HTTPException: it has another form than `metadata` says.
    """
    try:
        asked = msgspec.json.decode(content, type=Inference)
        tensor = asked.inputs[0]
        values = np.array(tensor.data)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error)[:200]
        raise HTTPException(400, f"expected JSON of the V2 protocol, no binary_data: {reason}") from None
    if (tensor.name, tensor.datatype, tensor.shape[3]) != ("pixels", "UINT8", 3):
        found = f"{tensor.name[:40]!a}, {tensor.datatype[:20]!a}, {tensor.shape}"
        raise HTTPException(400, f"the input is {found}; {_EXPECTED}")
    if values.dtype.kind not in "iu" or values.size != np.prod(tensor.shape, dtype=object):
        found = f"{values.size} values of type {values.dtype} for the shape {tensor.shape}"
        raise HTTPException(400, f"the data has {found}; {_EXPECTED}")
    if values.min() < 0 or values.max() > 255:
        raise HTTPException(400, f"the data goes from {values.min()} to {values.max()}; expected 0 to 255")
    if unknown := [name for name in asked.names if name not in _OUTPUTS]:
        raise HTTPException(400, f"there is no output {unknown[0][:40]!a}; there are: {', '.join(_OUTPUTS)}")
    return asked, values.astype(np.uint8).reshape(tensor.shape)


def reply(served: Served, asked: Inference, results: Sequence[Result]) -> dict[str, object]:
    """The answer to a request.

    Raises:
        HTTPException: an image could not be scored, or an output is asked for that the model has not.
    """
    for result in results:
        if result.error is not None:
            raise HTTPException(422, result.error)
    found: dict[str, list[Any]] = {
        "score": [result.score for result in results],
        "decision": [result.decision for result in results],
    }
    p_values = [result.p_value for result in results]
    if None not in p_values:
        found["p_value"] = p_values
    maps = [result.network_map for result in results if result.network_map is not None]
    if "map" in asked.names and maps:
        found["map"] = np.stack(maps).ravel().tolist()
    if lacking := [name for name in asked.names if name not in found]:
        raise HTTPException(400, f"the model {served.name} has no {lacking[0]}")
    outputs = [
        {
            "name": name,
            "datatype": _OUTPUTS[name][0],
            "shape": [len(results), *(maps[0].shape if name == "map" else ())],
            "data": found[name],
        }
        for name in asked.names or found
    ]
    threshold = results[0].threshold
    told = {} if threshold is None else {"threshold": threshold}
    return {"model_name": served.name, "id": asked.id or "", "parameters": told, "outputs": outputs}
