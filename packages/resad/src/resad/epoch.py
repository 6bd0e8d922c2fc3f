"""The losses of an epoch, summed up to the lines that the authors' scripts print."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from resad.optimiser import StepLosses

NAMES = ("items", "vq", "normal", "anomalous", "orthogonal", "flow")


class EpochLosses:
    """Sums and counts of every kind of loss since the epoch began."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.sums = dict.fromkeys(NAMES, 0.0)
        self.counts = dict.fromkeys(NAMES, 0)

    def add(self, steps: list[StepLosses]) -> list[dict[str, float]]:
        """Take steps into the sums, waiting for the device once; each step's own means, for the log.

        `codes` is the number of a quantiser's codes that a step used, averaged over levels.
        """
        kinds = [_kinds(step) for step in steps]
        flat = [value for step in kinds for values in step.values() for value in values]
        numbers = iter(torch.stack(flat).tolist() if flat else [])
        rows = []
        for step, source in zip(kinds, steps, strict=True):
            read = {name: [next(numbers) for _ in values] for name, values in step.items()}
            for name, values in read.items():
                self.sums[name] += sum(values)
                self.counts[name] += len(values)
            mean = {name: sum(values) / len(values) for name, values in read.items() if values}
            codes = sum(len(used) for used in source.used_codes) / len(source.used_codes)
            rows.append({"loss": mean.pop("items"), **mean, "codes": codes})
        return rows

    def mean(self, name: str) -> float:
        """Mean of a kind over the epoch; NaN if there was none."""
        return self.sums[name] / self.counts[name] if self.counts[name] else float("nan")

    def line(self, epoch: int, epochs: int, *, imagebind: bool) -> str:
        """The authors' line for an epoch, counted from 0."""
        if not imagebind:
            return f"Epoch[{epoch}/{epochs}]: train_loss: {self.mean('items')}"
        normal, anomalous = self.mean("normal"), self.mean("anomalous")
        return (
            f"Epoch[{epoch}/{epochs}]: VQ loss: {self.mean('vq')}, OCC loss: {normal + anomalous} "
            f"(n: {normal}, a: {anomalous}), Ort loss: {self.mean('orthogonal')}, "
            f"Flow loss: {self.mean('flow')}"
        )

    def state(self) -> dict[str, dict[str, float]]:
        """What `load` needs."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Continue from a saved state."""
        self.sums = dict(state["sums"])
        self.counts = {name: int(count) for name, count in state["counts"].items()}


def _kinds(step: StepLosses) -> dict[str, list[Float[Tensor, ""]]]:
    return {
        "items": step.items(),
        "vq": [step.quantiser],
        "normal": [level.normal for level in step.constraint],
        "anomalous": [level.anomalous for level in step.constraint],
        "orthogonal": [level.orthogonal for level in step.constraint],
        "flow": list(step.flows),
    }
