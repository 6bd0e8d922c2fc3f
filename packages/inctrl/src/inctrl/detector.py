"""From images, or features kept of them, to image scores and residual maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.augment import turns
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.models.anomaly_maps import highest, joined, upsample
from adcommon.models.compute import FULL, Compute
from adcommon.types.prediction import Prediction
from adcommon.types.threshold import left_out_places
from inctrl.backbone import Backbone
from inctrl.model import InCTRL
from inctrl.network.features import Features, Tower, as_features
from inctrl.network.residual import own_residual, patch_residual, relative_residual, text_score, unit
from inctrl.references import References, encode_references

FEWEST_REFERENCES = 3
"""That say anything of one another: each with two to compare with."""


class InCTRLDetector:
    """A trained InCTRL bound to the references of one category; image scores are in (0, 1).

    The map is the residual of each patch, M in the paper or relative, in [0, 1]; higher is more anomalous.
    """

    def __init__(
        self,
        model: InCTRL,
        tower: Tower,
        text: Float[Tensor, "1 2 embed"] | None,
        references: Features,
        preprocess: Preprocess,
        *,
        turns: int = 1,
        tiles: int = 1,
        compute: Compute = FULL,
    ) -> None:
        """Bind a model, in evaluation mode, to what is computed once: text and references.

        Args:
            text: T of the category; None without a text tower.
            turns: of each reference, which are all here, one turn of all images after the other.
            tiles: of each reference and turn.
            compute: how the tower is computed; residuals, adapter and heads, which are small, are in float32.
        """
        self.model = model.eval()
        self.tower = tower
        self.device = next(tower.parameters()).device
        self.preprocess = preprocess
        self.compute = compute
        self.text = None if text is None else text.to(self.device)
        self.references, self.turns, self.tiles = references, turns, tiles
        self.reference_tokens = references.tokens[None].to(self.device)
        self.reference_patches = [
            level.flatten(0, 1)[None].to(self.device) for level in unit(references.levels)
        ]
        self.own: Tensor | None = None
        if model.relative:
            images = len(references.tokens) // turns // tiles
            if images < 2:
                raise BadValue("relative residuals compare references with one another; give at least 2")
            self.own = own_residual(self.reference_patches, images, turns=turns)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Image scores, and maps at the images' size; both on the tower's device."""
        return self.score_features(self.compute(self.tower, images.to(self.device)))

    @torch.inference_mode()
    def score_features(self, levels: Sequence[Float[Tensor, "batch ..."]]) -> Prediction:
        """The same from the tower's maps of images, on any device."""
        return self._score(as_features(levels).to(self.device))

    @torch.inference_mode()
    def left_out(self) -> Prediction:
        """What the detector of all others says of each reference; of none of fewer than three."""
        everything, turns, tiles = self.references, self.turns, self.tiles
        count = len(everything.tokens) // turns // tiles
        image = torch.arange(len(everything.tokens)) // tiles % count

        def without(place: int) -> InCTRLDetector:
            others = everything[image != place]
            return InCTRLDetector(
                self.model, self.tower, self.text, others, self.preprocess, turns=turns, tiles=tiles
            )

        return joined(
            highest(without(place)._score(everything[place * tiles : (place + 1) * tiles].to(self.device)))
            for place in left_out_places(count if count >= FEWEST_REFERENCES else 0)
        )

    def _score(self, query: Features) -> Prediction:
        residual_map = patch_residual(query.levels, self.reference_patches)
        if self.own is not None:
            residual_map = relative_residual(residual_map, self.own)
        told = None if self.text is None else text_score(query.tokens, self.text)
        outputs = self.model(query.tokens, self.reference_tokens, residual_map, told)
        size = self.preprocess.size
        maps = upsample(residual_map.unflatten(1, self.tower.grid), size, align_corners=False)
        return Prediction(outputs.final, maps)


@dataclass(frozen=True, slots=True)
class FewShotModel:
    """A trained InCTRL that knows no category yet: with references it becomes a detector."""

    model: InCTRL
    backbone: Backbone
    preprocess: Preprocess
    rotations: int = 1
    """How often each reference joins, turned by equal parts of a whole turn."""
    compute: Compute = FULL
    """How test images pass through the tower; references do in float32."""

    def bind(self, category: str, references: References) -> InCTRLDetector:
        """The detector of a category, whose references are encoded now."""
        tower, text = self.backbone.tower, self.backbone.text([category])
        images = torch.cat(list(turns(references.images, self.rotations)))
        features = encode_references(tower, images)
        return InCTRLDetector(
            self.model,
            tower,
            text,
            features,
            self.preprocess,
            turns=self.rotations,
            tiles=references.tiles,
            compute=self.compute,
        )
