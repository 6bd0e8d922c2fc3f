"""From images to anomaly maps and image scores, bound to one category's references.

Per level exp(L_n - max) and the probability of being anomalous are upsampled and smoothed. The maxima are
taken from all test images of a category in the paper's protocol, from normal training images in a detector
that is to score one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.models.anomaly_maps import gaussian_blur, highest, joined, max_score, upsample
from adcommon.models.compute import FULL, Compute
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import left_out_places
from resad.backbone import Backbone
from resad.model import LevelScores, ResAD
from resad.network.residual import References, match_nested, residual

BLUR_SIGMA_PX = 4.0
FEWEST_REFERENCES = 3
"""That say anything of one another: each with two to compare with."""

Features = list[Float[Tensor, "batch _ _ _"]]
Level = Float[Tensor, "images _ _"]
Maps = Float[Tensor, "images height width"]


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """The constants that put likelihoods on one scale."""

    levels: tuple[float, ...]
    """Highest L_n of each level."""
    total: float
    """Highest sum over levels of the upsampled exp(L_n - highest)."""

    @classmethod
    def of(cls, normal: Sequence[Level], size: tuple[int, int]) -> "ScoreRange":
        """The constants of a set of images, from L_n of every level; `size` is that of the maps."""
        highest = tuple(float(level.max()) for level in normal)
        return cls(highest, float(normality(normal, size, highest).max()))


def normality(normal: Sequence[Level], size: tuple[int, int], highest: Sequence[float]) -> Maps:
    """Sum over levels of exp(L_n - highest), upsampled with aligned corners; higher is more normal."""
    levels = zip(normal, highest, strict=True)
    return torch.stack(
        [upsample((level - top).exp(), size, align_corners=True) for level, top in levels]
    ).sum(0)


def likelihood_map(normal: Sequence[Level], size: tuple[int, int], scale: ScoreRange) -> Maps:
    """S1: how far the normality falls below its highest, smoothed ("logps" of the authors)."""
    return gaussian_blur(scale.total - normality(normal, size, scale.levels), BLUR_SIGMA_PX)


def probability_map(probability: Sequence[Level], size: tuple[int, int]) -> Maps:
    """S2: mean over levels of the probability of being anomalous, smoothed ("bscores" of the authors)."""
    levels = [upsample(level, size, align_corners=True) for level in probability]
    return gaussian_blur(torch.stack(levels).mean(dim=0), BLUR_SIGMA_PX)


def merged_map(levels: Sequence[LevelScores], size: tuple[int, int], scale: ScoreRange) -> Maps:
    """(S1 + S2) / 2, the map that is reported; upsampled and smoothed once, in which both are linear."""
    anomaly = [
        upsample(level.probability / len(levels) - (level.normal - top).exp(), size, align_corners=True)
        for level, top in zip(levels, scale.levels, strict=True)
    ]
    return gaussian_blur((scale.total + torch.stack(anomaly).sum(dim=0)) / 2, BLUR_SIGMA_PX)


class ResADDetector:
    """A trained ResAD for one category; scores have no fixed range, higher is more anomalous."""

    def __init__(
        self,
        backbone: Backbone,
        model: ResAD,
        preprocess: Preprocess,
        references: References,
        *,
        scale: ScoreRange,
        compute: Compute = FULL,
    ) -> None:
        """Put the model in evaluation mode and bind it to the references, which move to its device.

        Args:
            compute: how backbone, constraintors and the flows' subnets are computed; all else is in float32.
        """
        self.device = next(model.parameters()).device
        self.backbone = backbone
        self.model = model.eval()
        self.preprocess = preprocess
        self.references = references.to(self.device)
        self.scale = scale
        self.compute = compute

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        features = self.compute(self.backbone, images.to(self.device))
        levels = level_scores(self.model, features, self.references, self.compute)
        maps = merged_map(levels, (images.shape[2], images.shape[3]), self.scale)
        return Prediction(max_score(maps), maps)

    def left_out(self) -> Prediction:
        """What the detector of all others says of each reference; of none of fewer than three."""
        return left_out(self.model, self.references, self.preprocess.size, self.scale, self.compute)


@dataclass(frozen=True, slots=True)
class FewShotModel:
    """A trained ResAD that knows no category yet: with reference images of one it becomes a detector."""

    backbone: Backbone
    model: ResAD
    preprocess: Preprocess
    scale: ScoreRange | None
    """None where the file has none: then the paper's protocol is all there is."""
    compute: Compute = FULL
    """Of test images; references pass through the backbone in float32."""

    def bind(self, references: References) -> ResADDetector:
        """The detector of the references' category.

        Raises:
            BadValue: there are no constants to score single images with.
        """
        if self.scale is None:
            raise BadValue(
                "a checkpoint of ResAD's authors lacks the constants that put single images on one scale; "
                "measure it on a dataset with resad-evaluate"
            )
        return ResADDetector(
            self.backbone, self.model, self.preprocess, references, scale=self.scale, compute=self.compute
        )


def level_scores(
    model: ResAD, features: Features, references: References, compute: Compute = FULL
) -> list[LevelScores]:
    """What each level says of images whose backbone features are known; the model is in evaluation mode."""
    shots = references.images
    return nested_scores(model, features, references, [shots], compute)[shots]


def left_out(
    model: ResAD, references: References, size: int, scale: ScoreRange, compute: Compute = FULL
) -> Prediction:
    """What is said of each reference when it is compared with all others; of none of fewer than three."""
    count = references.images if references.images >= FEWEST_REFERENCES else 0
    levels = (level_scores(model, *references.left_out(place), compute) for place in left_out_places(count))
    maps = (merged_map(level, (size, size), scale) for level in levels)
    return joined(highest(Prediction(max_score(each), each)) for each in maps)


@torch.inference_mode()
def nested_scores(
    model: ResAD,
    features: Features,
    references: References,
    shots: Sequence[int],
    compute: Compute = FULL,
) -> dict[int, list[LevelScores]]:
    """As `level_scores`, with the first 2, 4, ... reference images, which are compared with only once.

    Args:
        shots: rising numbers of reference images.
    """
    residuals: dict[int, Features] = {count: [] for count in shots}
    for level, rows in zip(features, references.levels, strict=True):
        maps = level.contiguous(memory_format=torch.channels_last)  # rows are views of it
        per_image = len(rows.rows) // references.images
        found = match_nested(maps, rows, [count * per_image for count in shots])
        for count, matched in zip(shots, found, strict=True):
            residuals[count].append(residual(maps, matched, model.residual))
    return {count: model(model.scaled(levels), compute.arithmetic) for count, levels in residuals.items()}
