"""The losses of ResAD (arXiv 2410.20047), as its authors' code has them; all work on rows.

Throughout, l(x) = log(sigmoid(x)), and a mean over no rows is 0.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from resad.network.flow import log_likelihoods

Rows = Float[Tensor, "rows channels"]
PerRow = Float[Tensor, " rows"]
Mask = Bool[Tensor, " rows"]
Scalar = Float[Tensor, ""]

SHELL_RADIUS = 0.4
"""Largest outer radius of the shell of normal rows."""
SHELL_THICKNESS = 0.01
"""Of the outer radius."""
SHELL_MARGIN = 0.9
"""The shell stays within this part of the closest anomalous row's radius."""
ANOMALY_MARGIN = 0.1
"""How far outside the shell anomalous rows are pushed."""
FOCAL_SMOOTHING = 1e-5
COSINE_EPS = 1e-8


@dataclass(frozen=True, slots=True)
class ConstraintLoss:
    """The parts of a level's constraintor loss."""

    normal: Scalar
    anomalous: Scalar
    orthogonal: Scalar
    """0 unless the regulariser is asked for."""

    @property
    def total(self) -> Scalar:
        """What is minimised."""
        return self.normal + self.anomalous + self.orthogonal

    def detach(self) -> "ConstraintLoss":
        """The same without gradient."""
        return ConstraintLoss(self.normal.detach(), self.anomalous.detach(), self.orthogonal.detach())


def mean_over(chosen: Mask, values: PerRow) -> Scalar:
    """The mean of the chosen values, 0 of none. As all of this file it asks no device for a number."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


def radius(lengths: PerRow) -> PerRow:
    """sqrt(|e| + 1) - 1, of rows with these norms; of the norm, not of its square."""
    return torch.sqrt(lengths + 1) - 1


def constraint_loss(
    rows: Rows, mask: Mask, targets: Rows | None, *, orthogonal: bool = False
) -> ConstraintLoss:
    """The two-sided hypersphere loss of one level.

    Normal rows are drawn into a shell of outer radius r_max = min(0.9 min A_a, 0.4). Anomalous rows are to
    stay what they were before the constraintor (`targets`) and to leave the shell by 0.1.

    Args:
        targets: residuals before the constraintor; None: no anomalous part.
        orthogonal: add the regulariser of the ImageBind variant over normal rows.
    """
    lengths = rows.norm(dim=1)
    size = radius(lengths)
    # Faithful: the one closest anomalous row decides the shell of the whole batch.
    closest = size.detach().masked_fill(~mask, torch.inf).min()
    outer = (SHELL_MARGIN * closest).clamp(max=SHELL_RADIUS)
    inner = (1 - SHELL_THICKNESS) * outer
    squeezed = _barrier(~mask, size - outer) + _barrier(~mask, inner - size)
    kept = rows.new_zeros(())
    if targets is not None:
        changed = (rows - targets).square().mean(dim=1)
        product = (rows * targets).sum(dim=1)
        cosine = product / (lengths.clamp(min=COSINE_EPS) * targets.norm(dim=1).clamp(min=COSINE_EPS))
        kept = mean_over(mask, changed + 1 - cosine) + _barrier(mask, outer + ANOMALY_MARGIN - size)
    regulariser = orthogonal_regulariser(rows * ~mask[:, None]) if orthogonal else rows.new_zeros(())
    return ConstraintLoss(squeezed, kept, regulariser)


def _barrier(chosen: Mask, excess: PerRow) -> Scalar:
    """Mean over chosen rows with a positive excess x of -l(-x) sg(exp(x))."""
    chosen = chosen & (excess > 0)
    excess = torch.where(chosen, excess, 0)  # of the others the exponential may overflow
    return mean_over(chosen, F.softplus(excess) * excess.detach().exp())


def orthogonal_regulariser(rows: Rows) -> Scalar:
    """Half the mean square of E^T E - I, of rows that are not normalised; rows of zeros change nothing."""
    gram = rows.T @ rows
    return 0.5 * (gram - torch.eye(len(gram), device=rows.device, dtype=rows.dtype)).square().mean()


def normal_boundary(normal: PerRow, mask: Mask, pos_beta: float) -> Scalar:
    """The log-likelihood below which `pos_beta` of the normal rows lie, NaN without any; without gradient."""
    count = (~mask).sum()
    ordered = normal.detach().masked_fill(mask, torch.inf).sort().values
    # Faithful: the place is computed in float32 and truncated.
    place = (count.float() * pos_beta).long()
    return torch.where(count > 0, ordered.gather(0, place[None])[0], torch.nan)


def contrast(
    normal: PerRow, mask: Mask, boundary: float | Scalar, margin_tau: float
) -> tuple[Scalar, Scalar]:
    """Pull normal rows above the boundary b_n and push anomalous ones below b_n - tau, by their L_n."""
    limit = boundary - margin_tau
    pulled = mean_over(~mask & (normal <= boundary), F.softplus(boundary - normal))
    pushed = mean_over(mask & (normal >= limit), F.softplus(normal - limit))
    return pulled, pushed


def focal(normal: PerRow, anomalous: PerRow, mask: Mask) -> Scalar:
    """Focal loss of the two likelihoods as a classifier: mean of -(1 - q)^2 log q.

    q = o p + 1e-5, o the true class smoothed by 1e-5 and p the softmax of [L_n, L_a].
    """
    margin = torch.where(mask, anomalous - normal, normal - anomalous)
    right, wrong = torch.sigmoid(margin), torch.sigmoid(-margin)
    q = right * (1 - FOCAL_SMOOTHING) + wrong * FOCAL_SMOOTHING + FOCAL_SMOOTHING
    return -((1 - q).square() * q.log()).mean()


@dataclass(frozen=True, slots=True)
class FlowLoss:
    """Which flow loss is meant, and its numbers."""

    log_sigmoid: bool
    """Likelihoods through -l(L); False: -L as it is (the ImageBind variant)."""
    margin_tau: float
    contrast_weight: float
    """Weight of the contrast terms (`bgspp_lambda`)."""

    def __call__(self, z: Rows, log_det: PerRow, mask: Mask, boundary: float | Scalar | None) -> Scalar:
        """The loss of one block of rows.

        Args:
            mask: anomalous rows; all False in stage 1 of convolutional backbones.
            boundary: the running b_n of this level; None: no contrast terms (stage 1).
        """
        return self.of(*log_likelihoods(z, log_det), mask, boundary)

    def of(self, normal: PerRow, anomalous: PerRow, mask: Mask, boundary: float | Scalar | None) -> Scalar:
        """The same, of likelihoods."""
        has_anomalies = mask.any()
        loss = mean_over(~mask, self._fit(normal)) + mean_over(mask, self._fit(anomalous))
        loss = loss + has_anomalies * focal(normal, anomalous, mask)
        if boundary is not None:
            # Faithful: with log-sigmoids only a block that has anomalous rows has contrast terms.
            pulled, pushed = contrast(normal, mask, boundary, self.margin_tau)
            weighted = self.contrast_weight * (pulled + pushed)
            loss = loss + (has_anomalies * weighted if self.log_sigmoid else weighted)
        return loss

    def _fit(self, likelihood: PerRow) -> PerRow:
        return F.softplus(-likelihood) if self.log_sigmoid else -likelihood


class RunningBoundaries:
    """The boundary b_n of each level, averaged over blocks: b <- 0.9 b + 0.1 new, starting at 0."""

    MOMENTUM = 0.9

    def __init__(self, levels: int) -> None:
        """All boundaries 0."""
        self.values = [torch.zeros(())] * levels

    def update(self, level: int, new: float | Scalar) -> None:
        """Take a block's boundary into the average; NaN, of a block without normal rows, changes nothing."""
        new, old = torch.as_tensor(new), self.values[level]
        self.values[level] = torch.where(new.isnan(), old, self.MOMENTUM * old + (1 - self.MOMENTUM) * new)

    def state_dict(self) -> dict[str, list[float]]:
        """What `load_state_dict` needs."""
        return {"values": [float(value) for value in self.values]}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Set all levels, as a resumed training does."""
        self.values = [torch.tensor(value) for value in state_dict["values"]]


@dataclass(frozen=True, slots=True)
class StepLosses:
    """What one step lost, all without gradient."""

    quantiser: Scalar
    """Summed over levels."""
    constraint: list[ConstraintLoss]
    """One per level."""
    flows: list[Scalar]
    """One per flow update, level by level."""
    used_codes: list[Scalar]
    """How many codes of each level's quantiser were nearest to some normal residual."""

    @property
    def constraint_total(self) -> Scalar:
        """Summed over levels, regularisers included."""
        return torch.stack([level.total for level in self.constraint]).sum()

    def kinds(self) -> dict[str, list[Scalar]]:
        """All of them by name; `items` is what was minimised: its mean is the authors' `train_loss`."""
        return {
            "items": [self.quantiser, self.constraint_total, *self.flows],
            "vq": [self.quantiser],
            "normal": [level.normal for level in self.constraint],
            "anomalous": [level.anomalous for level in self.constraint],
            "orthogonal": [level.orthogonal for level in self.constraint],
            "flow": self.flows,
            "codes": self.used_codes,
        }


class EpochLosses:
    """The losses of an epoch so far, left on the device until they are taken."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._pending: list[StepLosses] = []
        self.clear()

    def clear(self) -> None:
        """Begin the next epoch."""
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, step: StepLosses) -> None:
        """What one step lost."""
        self._pending.append(step)

    def take(self) -> list[dict[str, float]]:
        """Means within each step since the last call, for the log; the device is waited for once.

        `codes` is the number of a quantiser's codes that a step used.
        """
        kinds = [step.kinds() for step in self._pending]
        flat = [value for step in kinds for values in step.values() for value in values]
        numbers = iter(torch.stack(flat).tolist() if flat else [])
        rows = []
        for step in kinds:
            read = {name: [next(numbers) for _ in values] for name, values in step.items()}
            for name, values in read.items():
                self.sums[name] += sum(values)
                self.counts[name] += len(values)
            mean = {name: sum(values) / len(values) for name, values in read.items() if values}
            rows.append({"loss": mean.pop("items"), **mean})
        self._pending.clear()
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

    def state_dict(self) -> dict[str, dict[str, float]]:
        """What `load_state_dict` needs."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state_dict: dict[str, dict[str, float]]) -> None:
        """Continue from a saved state."""
        self.sums |= state_dict["sums"]
        self.counts |= {name: int(count) for name, count in state_dict["counts"].items()}
