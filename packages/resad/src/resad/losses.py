"""The losses of ResAD (arXiv 2410.20047), as its authors' code has them; all work on rows.

Throughout, l(x) = log(sigmoid(x)), and a mean over no rows is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from resad.network.flow import log_likelihoods

Rows = Float[Tensor, "rows channels"]
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


def mean_over(values: Float[Tensor, " rows"]) -> Scalar:
    """The mean, 0 of nothing; the graph is kept either way."""
    return values.mean() if len(values) else values.sum()


def radius(rows: Rows) -> Float[Tensor, " rows"]:
    """sqrt(|e| + 1) - 1; of the norm, not of its square."""
    return torch.sqrt(rows.norm(dim=1) + 1) - 1


def constraint_loss(
    rows: Rows, mask: Mask, targets: Rows | None, *, orthogonal: bool = False
) -> ConstraintLoss:
    """The two-sided hypersphere loss of one level.

    Normal rows are drawn into a shell of outer radius r_max = min(0.9 min A_a, 0.4). Anomalous rows are to
    stay what they were before the constraintor (`targets`) and to leave the shell by 0.1.

    Args:
        rows: the constraintor's output.
        mask: anomalous rows.
        targets: residuals before the constraintor; None: no anomalous part.
        orthogonal: add the regulariser of the ImageBind variant over normal rows.
    """
    size = radius(rows)
    anomalous, normal = size[mask], size[~mask]
    # Faithful: the one closest anomalous row decides the shell of the whole batch.
    outer = rows.new_tensor(SHELL_RADIUS)
    if len(anomalous):
        outer = torch.minimum(SHELL_MARGIN * anomalous.detach().min(), outer)
    inner = (1 - SHELL_THICKNESS) * outer
    squeezed = _barrier(normal - outer) + _barrier(inner - normal)
    kept = rows.sum() * 0
    if targets is not None and len(anomalous):
        changed, before = rows[mask], targets[mask]
        kept = (
            (changed - before).square().mean()
            + (1 - F.cosine_similarity(changed, before)).mean()
            + _barrier(outer + ANOMALY_MARGIN - anomalous)
        )
    regulariser = orthogonal_regulariser(rows[~mask]) if orthogonal else rows.new_zeros(())
    return ConstraintLoss(squeezed, kept, regulariser)


def _barrier(excess: Float[Tensor, " rows"]) -> Scalar:
    """Mean over rows with a positive excess x of -l(-x) sg(exp(x))."""
    excess = excess[excess > 0]
    return mean_over(F.softplus(excess) * excess.detach().exp())


def orthogonal_regulariser(rows: Rows) -> Scalar:
    """Half the mean square of E^T E - I, of rows that are not normalised."""
    gram = rows.T @ rows
    return 0.5 * (gram - torch.eye(len(gram), device=rows.device, dtype=rows.dtype)).square().mean()


def normal_boundary(normal: Float[Tensor, " rows"], mask: Mask, pos_beta: float) -> Scalar:
    """The log-likelihood below which `pos_beta` of the normal rows lie; without gradient."""
    ordered = normal[~mask].detach().sort().values
    # Faithful: the place is computed in float32 and truncated.
    place = int((torch.tensor(float(len(ordered))) * pos_beta).item())
    return ordered[place]


def contrast(
    normal: Float[Tensor, " rows"], mask: Mask, boundary: float | Scalar, margin_tau: float
) -> tuple[Scalar, Scalar]:
    """Pull normal rows above the boundary b_n and push anomalous ones below b_n - tau, by their L_n."""
    inside, outside = normal[~mask], normal[mask]
    limit = boundary - margin_tau
    pulled = mean_over(F.softplus(boundary - inside[inside <= boundary]))
    pushed = mean_over(F.softplus(outside[outside >= limit] - limit))
    return pulled, pushed


def focal(normal: Float[Tensor, " rows"], anomalous: Float[Tensor, " rows"], mask: Mask) -> Scalar:
    """Focal loss of the two likelihoods as a classifier: mean of -(1 - q)^2 log q.

    q = o p + 1e-5, o the true class smoothed by 1e-5 and p the softmax of [L_n, L_a].
    """
    wrong = torch.sigmoid(torch.where(mask, normal - anomalous, anomalous - normal))
    right = torch.sigmoid(torch.where(mask, anomalous - normal, normal - anomalous))
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

    def __call__(
        self,
        z: Rows,
        log_det: Float[Tensor, " rows"],
        mask: Mask,
        boundary: float | Scalar | None,
    ) -> Scalar:
        """The loss of one block of rows.

        Args:
            mask: anomalous rows; all False in stage 1 of convolutional backbones.
            boundary: the running b_n of this level; None: no contrast terms (stage 1).
        """
        normal, anomalous = log_likelihoods(z, log_det)
        has_anomalies = bool(mask.any())
        if not has_anomalies:
            loss = self._fit(normal)
        else:
            loss = mean_over(self._fit_rows(normal[~mask])) + mean_over(self._fit_rows(anomalous[mask]))
            loss = loss + focal(normal, anomalous, mask)
        # Faithful: with log-sigmoids a block without anomalous rows has no contrast terms; without, it has.
        if boundary is not None and (has_anomalies or not self.log_sigmoid):
            pulled, pushed = contrast(normal, mask, boundary, self.margin_tau)
            loss = loss + self.contrast_weight * (pulled + pushed)
        return loss

    def _fit_rows(self, likelihood: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return F.softplus(-likelihood) if self.log_sigmoid else -likelihood

    def _fit(self, likelihood: Float[Tensor, " rows"]) -> Scalar:
        return self._fit_rows(likelihood).mean()


class RunningBoundaries:
    """The boundary b_n of each level, averaged over blocks: b <- 0.9 b + 0.1 new, starting at 0."""

    MOMENTUM = 0.9

    def __init__(self, levels: int) -> None:
        """All boundaries 0."""
        self.values = [0.0] * levels

    def update(self, level: int, new: float) -> None:
        """Take a block's boundary into the average."""
        self.values[level] = self.MOMENTUM * self.values[level] + (1 - self.MOMENTUM) * new

    def load(self, values: Sequence[float]) -> None:
        """Set all levels, as a resumed training does."""
        self.values = [float(value) for value in values]
