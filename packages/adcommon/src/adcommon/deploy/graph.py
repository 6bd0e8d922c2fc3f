"""What is in an ONNX file, looked at in its bytes before a runtime builds anything; no other package."""

from collections.abc import Iterator

from adcommon.errors import WrongCheckpoint

# Numbers of fields, from onnx.proto: of a model, its functions, graphs, nodes, attributes and tensors.
_GRAPH, _PROPERTY, _TRAINING, _FUNCTION = 7, 14, 20, 25
_KEY, _VALUE = 1, 2
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _NODE_OF_FUNCTION = 4, 5, 7
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSORS = 5, 6, 10, 11, (22, 23)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_ENDLESS = (b"Loop", b"Scan")
_DEEPEST, _MOST_FIELDS = 20, 1_000_000

Field = tuple[int, int | memoryview]


def refuse_unsafe(content: bytes, where: str) -> None:
    """Refuse a file that reads other files, grows when it is read, or may run for ever.

    Raises:
        WrongCheckpoint: names what is wrong with it, or that it is no ONNX file.
    """
    try:
        for number, value in _fields(memoryview(content)):
            if number == _TRAINING:
                raise WrongCheckpoint(f"{where} holds a training; expected a file from `ad export`")
            if number == _GRAPH:
                _check_graph(_message(value), where, 0)
            elif number == _FUNCTION:
                _check_nodes(_message(value), _NODE_OF_FUNCTION, where, 0)
    except WrongCheckpoint:
        raise
    except (IndexError, ValueError, TypeError) as error:
        raise WrongCheckpoint(f"{where} is not an ONNX file, or a damaged one") from error


def metadata(content: bytes, key: str) -> str | None:
    """What a file that is safe says under a key, besides its graph; None: nothing.

    Raises:
        ValueError: it is no text.
    """
    for number, value in _fields(memoryview(content)):
        if number == _PROPERTY:
            entry = {part: bytes(_message(text)) for part, text in _fields(_message(value))}
            if entry.get(_KEY) == key.encode():
                return entry.get(_VALUE, b"").decode()
    return None


def _check_graph(graph: memoryview, where: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise WrongCheckpoint(f"{where} holds graphs in graphs; expected a file from `ad export`")
    for number, value in _fields(graph):
        if number == _SPARSE:
            raise WrongCheckpoint(f"{where} holds sparse tensors, which may fill any memory")
        if number == _INITIALIZER:
            _check_tensor(_message(value), where)
    _check_nodes(graph, _NODE, where, depth)


def _check_nodes(holder: memoryview, nodes: int, where: str, depth: int) -> None:
    for node in (_message(value) for number, value in _fields(holder) if number == nodes):
        for number, value in _fields(node):
            if number == _OPERATOR and bytes(_message(value)) in _ENDLESS:
                raise WrongCheckpoint(f"{where} holds a loop, which may run for ever")
            if number == _ATTRIBUTE:
                _check_attribute(_message(value), where, depth)


def _check_attribute(attribute: memoryview, where: str, depth: int) -> None:
    for number, value in _fields(attribute):
        if number in _SPARSE_TENSORS:
            raise WrongCheckpoint(f"{where} holds sparse tensors, which may fill any memory")
        if number in (_TENSOR, _TENSORS):
            _check_tensor(_message(value), where)
        elif number in (_SUBGRAPH, _SUBGRAPHS):
            _check_graph(_message(value), where, depth + 1)


def _check_tensor(tensor: memoryview, where: str) -> None:
    for number, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise WrongCheckpoint(
                f"{where} takes tensors from other files, which is refused; export the model again"
            )


def _fields(message: memoryview) -> Iterator[Field]:
    """The fields of a protobuf message: number, and a whole number or bytes."""
    place = 0
    for _ in range(_MOST_FIELDS):
        if place >= len(message):
            return
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        else:
            length = {1: 8, 5: 4}[kind] if kind in (1, 5) else -1
        if not 0 <= length <= len(message) - place:
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[place : place + length]
        place += length
    raise ValueError("a message of too many fields")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has too many bytes")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of a message")
    return value
