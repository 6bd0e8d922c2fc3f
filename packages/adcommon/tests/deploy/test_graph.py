import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.deploy.graph import refuse_unsafe
from adcommon.errors import WrongCheckpoint


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + len(content).to_bytes(1, "little") + content


def test_an_empty_graph_is_nothing_to_refuse() -> None:
    refuse_unsafe(field(7, b""), "a.onnx")
    refuse_unsafe(b"", "a.onnx")


def test_graphs_in_graphs_have_an_end() -> None:
    graph = b""
    for _ in range(15):
        graph = field(1, field(5, field(6, graph)))
    refuse_unsafe(field(7, graph), "a.onnx")
    for _ in range(6):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(WrongCheckpoint, match=r"a\.onnx holds graphs in graphs"):
        refuse_unsafe(field(7, graph), "a.onnx")


@pytest.mark.parametrize(
    "content", [b"\x3a", b"\x3a\xff", b"\x3a\x05abc", b"\xff" * 20, b"\x3b\x00", b"\x38\x01", b"\x0d\x00"]
)
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(WrongCheckpoint, match=r"a\.onnx is not an ONNX file"):
        refuse_unsafe(content, "a.onnx")


@given(st.binary(max_size=200))
def test_any_bytes_are_passed_or_refused(content: bytes) -> None:
    try:
        refuse_unsafe(content, "a.onnx")
    except WrongCheckpoint as error:
        assert "a.onnx" in str(error)  # noqa: PT017
