"""The graph of an exported file, computed by OpenVINO on the CPU; asked as onnxruntime's session is."""

import math
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from adcommon.deploy.contract import Tensor
from adcommon.deploy.graph import refuse_unsafe
from adcommon.errors import WrongCheckpoint, require

if TYPE_CHECKING:
    from openvino import Model, Node, Output

_TYPES = {"u8": "tensor(uint8)", "f32": "tensor(float)", "boolean": "tensor(bool)"}
"""OpenVINO's name of a type -> onnxruntime's."""


class OpenVinoSession:
    """Several threads may ask at the same time."""

    def __init__(
        self,
        content: bytes,
        where: str,
        *,
        memory: int,
        threads: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Build the graph of an ONNX file.

        Args:
            memory: bytes that the tensors of one batch may take, besides the weights.
            threads: by default all cores.
            options: properties by OpenVINO's names. By default one image at a time is fast
                (PERFORMANCE_HINT) and numbers have 32 bits (INFERENCE_PRECISION_HINT): left alone, OpenVINO
                takes 16 where the CPU has them, and says nothing.

        Raises:
            WrongCheckpoint: an unsafe graph, or one whose size cannot be told.
            MissingPackage: OpenVINO is not installed.
            RuntimeError: whatever OpenVINO raises.
        """
        require("openvino", "openvino")
        refuse_unsafe(content, where)
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(threads)
        from openvino import Core

        core = Core()
        model = core.read_model(content)
        self._where, self._memory = where, memory
        images, size = _batch_bytes(model, where)
        self._bytes_an_image = size / images
        self._refuse_large(images)
        self._inputs = [_tensor(port) for port in model.inputs]
        self._outputs = [_tensor(port) for port in model.outputs]
        self._compiled = core.compile_model(model, "CPU", {**properties, **(options or {})})
        self._own = threading.local()

    def get_inputs(self) -> list[Tensor]:
        """What it takes."""
        return self._inputs

    def get_outputs(self) -> list[Tensor]:
        """What it gives."""
        return self._outputs

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of these names."""
        self._refuse_large(max(len(value) for value in feeds.values()))
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        request = self._own.request
        request.infer(dict(feeds), share_inputs=True)
        return [np.array(request.get_tensor(name).data) for name in names]  # its own memory is used again

    def _refuse_large(self, images: int) -> None:
        if images * self._bytes_an_image > self._memory:
            raise WrongCheckpoint(
                f"{self._where} needs more than {self._memory / 2**30:.0f} GiB of memory for a batch of "
                f"{images}; take a smaller --batch-size"
            )


def _tensor(port: "Output") -> Tensor:
    name = port.get_any_name() if port.get_names() else ""
    kind = port.get_element_type().get_type_name()
    sides = [None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()]
    return Tensor(name, _TYPES.get(kind, kind), sides)


def _batch_bytes(model: "Model", where: str) -> tuple[int, int]:
    """Images of a batch, and bytes of the tensors that exist at once if nodes are computed in their order.

    Of a graph that takes any batch, for one image. What depends on no input is computed when the graph is
    built, and stays.
    """
    images = 1
    if model.inputs and len(model.inputs[0].get_partial_shape()):
        shape = model.inputs[0].get_partial_shape()
        if shape[0].is_dynamic:
            shape[0] = 1
            model = model.clone()
            model.reshape({model.inputs[0]: shape})
        else:
            images = max(1, shape[0].get_length())
    nodes = model.get_ordered_ops()
    last = {
        _key(port.get_source_output()): place for place, node in enumerate(nodes) for port in node.inputs()
    }
    fixed: set[str] = set()
    ends: dict[int, int] = {}
    alive = most = 0
    for place, node in enumerate(nodes):
        kind = node.get_type_name()
        if kind in ("If", "Loop", "TensorIterator"):
            raise WrongCheckpoint(f"{where} holds a branch, whose size is not known to OpenVINO")
        sources = [port.get_source_output().get_node().get_name() for port in node.inputs()]
        if kind != "Parameter" and fixed.issuperset(sources):
            fixed.add(node.get_name())
        if kind == "Constant":
            continue
        for port in node.outputs():
            size = _size(port, where)
            alive += size
            if node.get_name() not in fixed:
                end = last.get(_key(port), place)
                ends[end] = ends.get(end, 0) + size
        most = max(most, alive)
        alive -= ends.pop(place, 0)
    return images, most


def _key(port: "Output") -> tuple[str, int]:
    node: Node = port.get_node()
    return node.get_name(), port.get_index()


def _size(port: "Output", where: str) -> int:
    if port.get_partial_shape().is_dynamic:
        raise WrongCheckpoint(f"{where} holds tensors whose size is not known before they are computed")
    return math.prod(map(int, port.get_shape())) * max(1, int(port.get_element_type().bitwidth) // 8)
