"""An ONNX file is computed if its graph is what its facts say; nothing else of it is believed."""

import json
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adcommon.data.kind import STATISTICS
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.load import load
from adcommon.deploy.openvino import OpenVinoSession
from adcommon.deploy.runtime import METADATA, OnnxDetector
from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.testing.alterations import alterations, sample
from adcommon.types.values import Runtime

SIZE = 16
FACTS: dict[str, Any] = {
    "method": "recontrast",
    "category": "bolt+nut",
    "threshold": 0.5,
    "preprocess": json.loads(json.dumps(asdict(Preprocess(image_size=SIZE)))),
    "kinds": [{"images": 9, "ranges": {name: [1.5, 2] for name in STATISTICS}}],
}
RUNTIMES = ("onnxruntime", "openvino")
Change = Callable[[onnx.ModelProto], object]


def model(*, batch: int | str = "batch", side: int | None = None, facts: object = FACTS) -> onnx.ModelProto:
    """The score is the brightest value; the map is the first channel. `side` adds a constant to both."""
    constants = {
        "axes": np.array([1, 2, 3]),
        "channels": np.array([3]),
        "first": np.array([0]),
        "last": np.array([1]),
        "zero": np.zeros((1, 1, 1), np.float32),
        "side": np.array([1, side or 1, side or 1]),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["zero", "side"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["nothing"], keepdims=0),
        helper.make_node("ReduceMax", ["values", "axes"], ["brightest"], keepdims=0),
        helper.make_node("Add", ["brightest", "nothing"], ["score"]),
        helper.make_node("Slice", ["values", "first", "last", "channels"], ["red"]),
        helper.make_node("Squeeze", ["red", "channels"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, SIZE, SIZE]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if facts is not None:
        text = facts if isinstance(facts, str) else json.dumps(facts)
        helper.set_model_props(made, {METADATA: text})
    return made


def written(folder: Path, made: onnx.ModelProto) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(made.SerializeToString())
    return file


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_sound_file_is_computed_in_any_batch(tmp_path: Path, runtime: Runtime) -> None:
    made = model()
    made.graph.output.insert(0, made.graph.output.pop())  # outputs are found by their names
    detector = OnnxDetector(written(tmp_path, made), runtime=runtime, threads=1)
    assert detector.runtime == runtime
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    prediction = detector.score_pixels(pixels)
    assert (prediction.image_scores == pixels.max(axis=(1, 2, 3))).all()
    assert prediction.anomaly_maps is not None
    assert (prediction.anomaly_maps == pixels[..., 0]).all()
    assert (detector.facts.method, detector.facts.category) == ("recontrast", "bolt+nut")


def shape(which: str, place: int, axis: int, value: int | str | None) -> Change:
    def change(made: onnx.ModelProto) -> None:
        dim = getattr(made.graph, which)[place].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if isinstance(value, str):
            dim.dim_param = value
        elif value is not None:
            dim.dim_value = value

    return change


def external(made: onnx.ModelProto, location: str = "weights.bin") -> None:
    tensor = made.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    tensor.ClearField("raw_data")


def hidden_external(made: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("x", TensorProto.FLOAT, [1], [0.0])
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    tensor.data_location = TensorProto.EXTERNAL
    made.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def endless(made: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("c2", TensorProto.BOOL, [])],
    )
    made.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))


def sparse(made: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**12]))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda made: made.graph.ClearField("input"),
            "can be run|takes nothing",
        ),
        (lambda made: made.graph.ClearField("output"), "not an ONNX file that can be run|gives nothing"),
        (lambda made: setattr(made.graph.node[0], "op_type", "Evil"), "not an ONNX file that can be run"),
        (lambda made: setattr(made.graph.node[0], "domain", "evil"), "not an ONNX file that can be run"),
        *(
            (
                shape("input", 0, 0, batch),
                r"expected pixels, tensor\(uint8\), \[batch, 16, 16, 3\]|can be run|more than 2 GiB",
            )
            for batch in (0, 2, 10**7)
        ),
        (shape("input", 0, 1, 8), "takes pixels|can be run"),
        (shape("input", 0, 3, 4), "takes pixels|can be run"),
        (
            lambda made: made.graph.output.append(made.graph.value_info.add(name="values")),
            "gives score|can be run",
        ),
        (external, "takes tensors from other files"),
        (lambda made: external(made, "*/_ORT_MEM_ADDR_/*"), "takes tensors from other files"),
        (hidden_external, "takes tensors from other files"),
        (endless, "holds a loop"),
        (sparse, "holds sparse tensors"),
    ],
)
def test_another_graph_is_refused_before_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, message: str, runtime: Runtime
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    made = model()
    change(made)
    with pytest.raises(WrongCheckpoint, match=rf"model\.onnx.*({message})"):
        OnnxDetector(written(tmp_path, made), runtime=runtime)


def test_what_a_graph_says_that_it_gives_is_what_goes_in(tmp_path: Path) -> None:
    made = model()
    shape("output", 0, 0, 3)(made)
    with pytest.raises(WrongCheckpoint, match=r"gives score, .*; expected score|can be run"):
        OnnxDetector(written(tmp_path, made))  # OpenVINO works the shapes out for itself


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "says nothing of its preprocessing"),
        ("no JSON", "its metadata is no JSON"),
        ("[" * 100_000, "its metadata is no JSON"),
        ("5", "metadata is 5; expected an object"),
        ("[]", r"metadata is \[\]; expected an object"),
        ("{}", "the field method is missing"),
        ({**FACTS, "threshold": "x"}, "metadata.threshold is 'x'; expected a finite number"),
        ({**FACTS, "new": 1}, "unknown field 'new'; was it written by a newer version"),
        ({**FACTS, "category": "../x"}, "the category '../x' cannot be the name of a folder"),
        (
            {**FACTS, "preprocess": {"image_size": 64}},
            r"expected pixels, tensor\(uint8\), \[batch, 64, 64, 3\]",
        ),
    ],
)
def test_facts_are_no_more_believed_than_the_graph(tmp_path: Path, facts: object, message: str) -> None:
    with pytest.raises(WrongCheckpoint, match=rf"model\.onnx.*{message}"):
        OnnxDetector(written(tmp_path, model(facts=facts)))


@pytest.mark.parametrize("content", [b"", b"\x08", b"<html>", b"no graph", b"\xff" * 100, b"\x80\x04K\x01."])
def test_what_is_no_onnx_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(WrongCheckpoint, match=r"a\.onnx"):
        OnnxDetector(tmp_path / "a.onnx")
    with pytest.raises(WrongCheckpoint, match="cannot read"):
        OnnxDetector(tmp_path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_that_wants_all_memory_gets_none(tmp_path: Path, runtime: Runtime) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for side in (30_000, 200_000):
        file = written(tmp_path, model(side=side, batch="batch"))
        with pytest.raises(WrongCheckpoint, match="needs more than 2 GiB of memory for a batch"):
            OnnxDetector(file, runtime=runtime).score_pixels(np.zeros((2, SIZE, SIZE, 3), np.uint8))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_graph_that_gives_something_else_than_it_says_is_refused(tmp_path: Path) -> None:
    made = model()
    made.graph.node[4].input[0] = "values"  # four axes in the place of one
    with pytest.raises(WrongCheckpoint, match=r"can be run|the output score|gives score"):
        OnnxDetector(written(tmp_path, made)).score_pixels(np.zeros((2, SIZE, SIZE, 3), np.uint8))


def test_a_device_that_cannot_be_had_is_an_error_not_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, model())
    with pytest.raises(BadValue, match=r"has no CUDAExecutionProvider, only .*CPUExecutionProvider"):
        load(file, device="cuda:1")
    with pytest.raises(UserError, match="unknown device of onnxruntime: 'cudda'; did you mean 'cuda'"):
        load(file, device="cudda")
    with pytest.raises(BadValue, match="OpenVINO is used on the CPU only, not on cuda"):
        load(file, device="cuda", runtime="openvino")
    with pytest.raises(BadValue, match="name the one"):
        load(file, runtime="auto", options={"PERFORMANCE_HINT": "THROUGHPUT"})
    with pytest.raises(BadValue, match="is not an exported file, and torch computes it"):
        load(tmp_path, threads=1)
    for how in ({"precision": "fp32"}, {"compile": True}):
        with pytest.raises(BadValue, match="computes as it was written; --precision and --compile are for"):
            load(file, **how)

    asked: list[object] = []

    class NoDriver(ort.InferenceSession):  # onnxruntime takes the CPU then
        def __init__(self, content: bytes, settings: object, providers: list[object], **rest: object) -> None:
            asked.extend(providers)
            super().__init__(content, settings, providers=["CPUExecutionProvider"], **rest)

    monkeypatch.setattr(ort, "InferenceSession", NoDriver)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(BadValue, match="could not start CUDAExecutionProvider"):
        load(file, device="cuda:1", options={"gpu_mem_limit": "5"})
    assert asked == [
        ("CUDAExecutionProvider", {"device_id": "1", "gpu_mem_limit": "5"}),
        "CPUExecutionProvider",
    ]


def test_openvino_takes_its_own_options_and_several_threads(tmp_path: Path) -> None:
    detector = OnnxDetector(
        written(tmp_path, model(batch="batch")),
        runtime="openvino",
        threads=1,
        options={"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"},
    )
    session = detector._session
    assert isinstance(session, OpenVinoSession)
    taken = session._compiled.get_property("PERFORMANCE_HINT")
    assert str(taken).endswith("THROUGHPUT")
    images = [np.full((1, SIZE, SIZE, 3), level, np.uint8) for level in range(200)]
    with ThreadPoolExecutor(4) as pool:
        scores = [float(prediction.image_scores[0]) for prediction in pool.map(detector.score_pixels, images)]
    np.testing.assert_allclose(scores, range(200), rtol=0.01)


def predicted(file: Path, runtime: Runtime = "onnxruntime") -> None:
    """Load a file and score an image, or be refused."""
    with suppress(UserError):
        load(file, runtime=runtime).predict(np.zeros((SIZE, SIZE, 3), np.uint8))


def test_any_facts_are_taken_or_refused(tmp_path: Path) -> None:
    for _, facts in sample(FACTS, 80):
        predicted(written(tmp_path, model(facts=facts)))


@pytest.mark.slow
def test_all_alterations_of_the_facts_are_taken_or_refused(tmp_path: Path) -> None:
    for _, facts in alterations(FACTS):
        predicted(written(tmp_path, model(facts=facts)))


@given(st.data())
def test_a_damaged_file_is_computed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.onnx"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    predicted(file, data.draw(st.sampled_from(RUNTIMES)))
