"""One update of the reconstruction networks and the decoder, and the features that it learns from."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from adcommon.models.feature_store import FeatureStore
from realnet.losses import feature_mse, segmentation_cross_entropy, segmentation_focal
from realnet.model import Features, RealNet
from realnet.recipes import Recipe
from realnet.synthesis.data import ItemBatch


def make_optimiser(model: RealNet, recipe: Recipe) -> Adam:
    """Adam over the reconstruction networks and RRS, two groups with the same settings."""
    groups = [list(part.parameters()) for part in (model.recon, model.rrs)]
    return Adam(
        [{"params": group} for group in groups],
        lr=recipe.lr,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        weight_decay=recipe.weight_decay,
        fused=groups[0][0].device.type in ("cpu", "cuda"),  # one pass over memory instead of eight
    )


def set_rate(optimiser: Optimizer, recipe: Recipe, step: int, total: int) -> None:
    """The learning rate of a step, counted from 0, out of `total`."""
    lowered = step >= int(recipe.lr_milestone * total)
    for group in optimiser.param_groups:
        group["lr"] = recipe.lr * (recipe.lr_factor if lowered else 1.0)


def update(
    network: nn.Module,
    features: Features,
    clean: Features,
    masks: Float[Tensor, "batch height width"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    recipe: Recipe,
) -> Float[Tensor, "2"]:
    """One optimiser step; returns the losses before it: of the map, and of the features, not yet weighted.

    Args:
        network: `model.trainable()`, as it may be wrapped.
        features: of images with synthetic anomalies, which the masks show; `clean` without them.
    """
    with accelerator.autocast():
        outputs = network(features)
    logits = outputs.logits if outputs.logits.dtype == torch.float64 else outputs.logits.float()
    segmentation = segmentation_loss(logits, masks, recipe)
    distance = feature_mse([ours.to(wanted.dtype) for ours, wanted in zip(outputs.rebuilt, clean)], clean)  # noqa: B905
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(recipe.segmentation_weight * segmentation + recipe.feature_weight * distance)
    optimiser.step()
    return torch.stack([segmentation, distance]).detach()


def segmentation_loss(
    logits: Float[Tensor, "batch 2 height width"], masks: Float[Tensor, "batch height width"], recipe: Recipe
) -> Float[Tensor, ""]:
    """The recipe's loss of the map."""
    if recipe.segmentation_loss == "focal":
        return segmentation_focal(logits, masks, alpha=recipe.focal_alpha, gamma=recipe.focal_gamma)
    return segmentation_cross_entropy(logits, masks)


def clean_maps(
    model: RealNet, batch: ItemBatch, store: FeatureStore | None
) -> list[Float[Tensor, "batch _channels _height _width"]]:
    """The backbone's maps of a batch's clean images, out of the store if any."""
    return model.backbone(batch.clean) if store is None else store.batch(batch.indices)


def mixed_features(
    model: RealNet,
    clean: Sequence[Float[Tensor, "batch _ _ _"]],
    images: Float[Tensor, "batch 3 height width"],
    anomalous: Sequence[bool],
) -> tuple[Features, Features]:
    """Selected features of a batch with and without its anomalies; normal items are the same in both.

    Only the anomalous images pass through the backbone; of the others the maps in `clean` are all there is.
    """
    clean_features = model.afs(model.levels(clean))
    if not any(anomalous):
        return clean_features, clean_features
    rows = torch.tensor([row for row, changed in enumerate(anomalous) if changed])
    rows = rows.to(images.device, non_blocking=True)
    changed = model.features(images.index_select(0, rows))
    features = [block.index_copy(0, rows, new) for block, new in zip(clean_features, changed, strict=True)]
    return features, clean_features
