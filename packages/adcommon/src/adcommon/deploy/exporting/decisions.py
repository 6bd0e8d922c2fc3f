"""What an exported graph says besides scores and maps: how high a score is, how rare, and the decision."""

from typing import TYPE_CHECKING, Any

import numpy as np

from adcommon.types.threshold import Threshold

if TYPE_CHECKING:
    from onnx import ModelProto


def add_decisions(graph: "ModelProto", threshold: float | None, calibration: Threshold | None) -> None:
    """Give a graph with the output `score` those of its further outputs that are known.

    - `decision`, tensor(bool), if there is a threshold: the score is greater.
    - `p_value`, if the scores of the calibration were kept: see `Threshold.p_value`.
    - `normalised_score`, if both are known: 0 at the median of the calibration's scores, 1 at the threshold,
      and straight on below and above. The lower of two medians is taken; it must be below the threshold.
    """
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: object) -> str:
        array = np.asarray(value)
        graph.graph.initializer.append(numpy_helper.from_array(array, f"decisions_{name}"))
        return f"decisions_{name}"

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def gives(name: str, kind: int = TensorProto.FLOAT) -> None:
        graph.graph.output.append(helper.make_tensor_value_info(name, kind, ["batch"]))

    scores = () if calibration is None else calibration.scores
    if threshold is not None:
        limit = below(threshold)
        if scores and (median := np.float32(scores[(len(scores) - 1) // 2])) < limit:
            above = node("Sub", ["score", constant("median", median)], "decisions_above")
            node("Div", [above, constant("span", limit - median)], "normalised_score")
            gives("normalised_score")
        node("Greater", ["score", constant("threshold", limit)], "decision")
        gives("decision", TensorProto.BOOL)
    if scores:
        column = node("Unsqueeze", ["score", constant("axis", np.array([1]))], "decisions_column")
        known = constant("scores", np.array([below(score) for score in scores]))
        lower = node(
            "Cast", [node("Less", [known, column], "decisions_less")], "decisions_lower", to=TensorProto.FLOAT
        )
        count = node("ReduceSum", [lower, "decisions_axis"], "decisions_count", keepdims=0)
        total = constant("total", np.float32(len(scores) + 1))
        node("Div", [node("Sub", [total, count], "decisions_not_lower"), total], "p_value")
        gives("p_value")


def below(value: float) -> np.float32:
    """The largest float32 that is not above: a score in float32 is greater than it if it is than `value`."""
    near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))
