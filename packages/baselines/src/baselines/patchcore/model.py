"""PatchCore (arXiv 2106.08265): patches of normal images in a memory; what is far from all is anomalous."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor, nn

from adcommon.data.augment import turns
from adcommon.models.neighbours import nearest_distances
from baselines.features import PatchFeatures, make_pyramid
from baselines.patchcore.coreset import coreset
from baselines.patchcore.recipes import Recipe


class PatchCore(nn.Module):
    """Frozen features and a memory of them."""

    memory: Float[Tensor, "memory channels"]

    def __init__(self, features: PatchFeatures, patches: int, *, cosine: bool = False) -> None:
        """A model with an empty memory.

        Args:
            features: the frozen network.
            patches: that the memory holds.
            cosine: distances are one minus cosine similarities, else Euclidean.
        """
        super().__init__()
        self.features, self.cosine = features, cosine
        self.register_buffer("memory", torch.zeros(patches, features.channels))

    @torch.no_grad()
    def fit(
        self, images: Iterable[Float[Tensor, "_ 3 height width"]], recipe: Recipe, count: int
    ) -> Int64[Tensor, " memory"]:
        """See all normal images once, and keep a coreset of their patches.

        Args:
            count: images there are.

        Returns:
            Which image each patch of the memory is of.
        """
        generator = Generator().manual_seed(recipe.seed)
        quota = -(-recipe.candidates // (count * recipe.rotations)) if recipe.candidates else None
        seen: list[Tensor] = []
        owners: list[Tensor] = []
        first = 0
        for batch in images:
            for turned in turns(batch, recipe.rotations):
                for place, patches in enumerate(drawn(self.patches(turned), quota, generator), first):
                    seen.append(patches)
                    owners.append(torch.full((len(patches),), place, device=patches.device))
            first += len(batch)
        candidates, owner = torch.cat(seen), torch.cat(owners)
        kept = max(1, round(recipe.coreset * len(candidates)))
        if kept < len(candidates):
            chosen = coreset(candidates, kept, generator, projection=recipe.projection)
            candidates, owner = candidates[chosen], owner[chosen]
        self.memory = candidates.clone()
        return owner

    def remembering(self, kept: Bool[Tensor, " memory"]) -> "PatchCore":
        """The same with a part of the memory; the frozen network is shared."""
        part = PatchCore(self.features, 0, cosine=self.cosine)
        part.memory = self.memory[kept]
        return part

    def patches(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch grid_height grid_width channels"]:
        """The vector of every patch; of length 1 where distances are of cosines."""
        vectors = self.features(images).permute(0, 2, 3, 1)
        return F.normalize(vectors, dim=-1) if self.cosine else vectors

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[
        Float[Tensor, "batch grid_height grid_width"], Float[Tensor, "batch grid_height grid_width channels"]
    ]:
        """Distance of every patch from the nearest one of the memory, and the patches."""
        patches = self.patches(images)
        distances, _ = nearest_distances(patches.flatten(1, 2), self.memory)
        if self.cosine:  # vectors of length 1: the square of their distance is twice one minus their cosine
            distances = distances.square() / 2
        return distances.view(patches.shape[:3]), patches

    def reweighted(
        self,
        distances: Float[Tensor, "batch grid_height grid_width"],
        patches: Float[Tensor, "batch grid_height grid_width channels"],
        neighbours: int,
    ) -> Float[Tensor, " batch"]:
        """The largest distance of a patch, less where its nearest one is near no others (equation 7).

        The factor is one minus the softmax of the patch's distance to its nearest neighbour among the
        distances to the `neighbours` patches of the memory around that one.
        """
        largest, place = distances.flatten(1).max(dim=1)
        images = torch.arange(patches.shape[0], device=place.device)
        farthest = patches.flatten(1, 2)[images, place][:, None]
        _, nearest = nearest_distances(farthest, self.memory)
        around_nearest = min(neighbours, len(self.memory))
        _, around = nearest_distances(self.memory[nearest[..., 0]], self.memory, around_nearest)
        support = (self.memory[around[:, 0]] - farthest).norm(dim=2)
        return largest * (1 - support.softmax(dim=1)[:, 0])


def build(recipe: Recipe, *, weights: str | None = "pretrained", patches: int = 0) -> PatchCore:
    """The model of a recipe, its memory empty.

    Args:
        weights: the backbone's: "pretrained", "random" or a file; None: a checkpoint will fill the model.
        patches: that the memory holds.
    """
    pyramid = make_pyramid(recipe, weights)
    features = PatchFeatures(pyramid, upsampling="bilinear", neighbourhood=recipe.neighbourhood)
    return PatchCore(features, patches, cosine=recipe.distance == "cosine")


def drawn(
    patches: Float[Tensor, "batch grid_height grid_width channels"], quota: int | None, generator: Generator
) -> Iterable[Float[Tensor, "some channels"]]:
    """So many patches of each image, drawn at random; None: all."""
    for image in patches.flatten(1, 2):
        order = torch.randperm(len(image), generator=generator)
        yield image if quota is None else image[order[:quota].to(image.device)]
