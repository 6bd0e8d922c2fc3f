"""RealNet: channels, training, test images, against the reference's way of computing the same, in one run.

Channels: the reference draws batches of its own for every block, sends clean and anomalous images through the
backbone each time and scores every layer in two passes over its differences. Ours shares batches between
blocks, has the clean images' maps already, leaves out layers that keep every channel, and scores in one pass.

Step: the reference sends clean images and the whole batch through the backbone, normalises a copy of all
residuals to rank two numbers per channel, and gathers through an index of every pixel; Adam updates
parameter by parameter. Both have the same losses, which is shown.

Image: one test image, from pixels to map and score. The reference normalises the residuals as in a step, lays
out every head's attention, and has the weights of its convolutions put in oneDNN's order for each image. Maps
are the same, which is asserted. At full width (--recipe mvtec) a step needs 20 GB of memory, an image 8 GB,
the channels 3 GB. Of one thread it is CPU time.

    OMP_NUM_THREADS=1 python benchmarks/bench_realnet_train.py [--parts channels step image]
        [--recipe mvtec] [--size 128] [--batch 4]
"""

import argparse
import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from bench_diffusion import as_reference, awake
from bench_realnet import compare
from products import explain, operations_of
from torch import Tensor, nn

from realnet.detector import RealNetDetector, make_preprocess
from realnet.losses import feature_mse, segmentation_cross_entropy
from realnet.model import Features, RealNet
from realnet.network.afs import AFS, Pair, channel_scores, total_scores
from realnet.network.rrs import join
from realnet.optimiser import make_optimiser, mixed_features, update
from realnet.recipes import RECIPES, Recipe


def pictures(recipe: Recipe, batch: int) -> tuple[Tensor, Tensor, Tensor, list[bool]]:
    """Clean images, images half of which have an anomaly, masks, and which those are."""
    side = recipe.image_size
    clean, masks = torch.randn(batch, 3, side, side), torch.zeros(batch, side, side)
    anomalous = [number % 2 == 1 for number in range(batch)]
    masks[1::2, side // 4 : side // 2, side // 4 : side // 2] = 1
    return clean, clean + 2 * masks[:, None] * torch.randn_like(clean), masks, anomalous


def layout(recipe: Recipe) -> torch.memory_format:
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


def reference_scores(afs: AFS, model: RealNet, images: Tensor, clean: Tensor, masks: Tensor) -> list[Tensor]:
    """One batch per block, each through the backbone twice; every layer scored by its definition."""
    found = []
    for block in afs.blocks:
        with_anomalies, without = (model.levels(model.backbone(value)) for value in (images, clean))
        for layer, _ in block.layers:
            grid = afs.grid(block, layer, without[layer])
            changed, unchanged = (
                F.interpolate(levels[layer], grid, mode="bilinear", align_corners=True)
                for levels in (with_anomalies, without)
            )
            difference = (changed - unchanged).square()
            low, high = difference.amin(dim=(0, 2, 3)), difference.amax(dim=(0, 2, 3))
            scaled = (difference - low[:, None, None]) / (high - low + 1e-4)[:, None, None]
            label = F.interpolate(masks[:, None], grid, mode="nearest")
            found.append((scaled - label).square().mean(dim=(0, 2, 3)))
    return found


def channels(recipe: Recipe, batch: int, rounds: int) -> None:
    model = RealNet(recipe, weights="random")
    clean, images, masks, _ = pictures(recipe, batch)
    kept = model.levels(model.backbone(clean))

    def ours() -> dict[str, Tensor]:
        pair = Pair(model.levels(model.backbone(images)), kept, masks)
        return total_scores(model.afs, model.channels, [pair])

    with torch.no_grad():
        block = model.blocks[-1]
        layer = block.layers[-1][0]
        levels = model.levels(model.backbone(images))
        own = channel_scores(levels[layer], kept[layer], masks, model.afs.grid(block, layer, kept[layer]))
        theirs = reference_scores(model.afs, model, images, clean, masks)[-1]
        print(f"scores of {layer}: largest difference {float((own - theirs).abs().max()):.1e}")
        compare(
            "channels, one batch for every block",
            lambda: reference_scores(model.afs, model, images, clean, masks),
            ours,
            rounds,
            batch,
        )


def reference_logits(
    model: RealNet, norm: nn.BatchNorm2d, features: Features, size: torch.Size
) -> tuple[list[Tensor], Tensor]:
    """What is rebuilt and the logits, as the reference computes them; `norm` normalises every residual."""
    rrs = model.rrs
    rebuilt = [network(block) for network, block in zip(model.recon.values(), features, strict=True)]
    joined = join([(a - b).square() for a, b in zip(features, rebuilt, strict=True)])
    with torch.no_grad():
        normal = norm(joined)
        scores = {"max": F.adaptive_max_pool2d(normal, 1), "mean": F.adaptive_avg_pool2d(normal, 1)}
        chosen = [scores[mode].flatten(1).topk(count, dim=1).indices for mode, count in rrs.modes]
    index = torch.cat(chosen, dim=1)[:, :, None, None].expand(-1, -1, *joined.shape[2:])
    x = rrs.decoder2(rrs.decoder1(torch.gather(joined, 1, index)))
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    return rebuilt, F.interpolate(rrs.decoder3(x), size, mode="bilinear", align_corners=True)


class ReferenceStep:
    """A training step as the reference computes it."""

    def __init__(self, model: RealNet, recipe: Recipe) -> None:
        self.model = model
        groups = [list(part.parameters()) for part in (model.recon, model.rrs)]
        self.optimiser = torch.optim.Adam(
            [{"params": group} for group in groups], lr=recipe.lr, foreach=False
        )
        self.norm = nn.BatchNorm2d(model.rrs.bn_idx.num_features, momentum=0.9, affine=False)

    def __call__(self, clean: Tensor, images: Tensor, masks: Tensor) -> tuple[float, float]:
        wanted, features = self.model.features(clean), self.model.features(images)
        rebuilt, logits = reference_logits(self.model, self.norm, features, images.shape[2:])
        losses = segmentation_cross_entropy(logits, masks), feature_mse(rebuilt, wanted)
        self.optimiser.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        self.optimiser.step()
        return losses[0].item(), losses[1].item()


def step(recipe: Recipe, batch: int, rounds: int) -> None:
    accelerator = Accelerator(cpu=True)
    clean, images, masks, anomalous = pictures(recipe, batch)
    torch.manual_seed(0)
    model = RealNet(recipe, weights="random").train().to(memory_format=layout(recipe))
    torch.manual_seed(0)
    plain = replace(recipe, channels_last=False)
    reference = ReferenceStep(as_reference(RealNet(plain, weights="random").train()), recipe)
    optimiser, network, kept = make_optimiser(model, recipe), model.trainable(), model.backbone(clean)

    def ours() -> Tensor:
        features, wanted = mixed_features(model, kept, images, anomalous)
        return update(network, features, wanted, masks, optimiser, accelerator, recipe)

    theirs = reference(clean, images, masks)
    print(f"losses of the first step: reference {theirs}, ours {tuple(ours().tolist())}")
    compare("training step", lambda: reference(clean, images, masks), ours, rounds, batch)


def image(recipe: Recipe, _: int, rounds: int) -> None:
    torch.manual_seed(1)  # of 0 two channels are so equal at 256 pixels that their order is one of rounding
    model = awake(RealNet(recipe, weights="random").eval())
    theirs = as_reference(copy.deepcopy(model))
    model = model.to(memory_format=layout(recipe))
    picture = torch.randn(1, 3, recipe.image_size, recipe.image_size)
    detector = RealNetDetector(model, make_preprocess(recipe), recipe)

    @torch.no_grad()
    def reference() -> tuple[Tensor, Tensor]:
        features = theirs.features(picture)
        _, logits = reference_logits(theirs, theirs.rrs.bn_idx, features, picture.shape[2:])
        maps = logits.softmax(dim=1)[:, 1:]
        return F.avg_pool2d(maps, recipe.window, stride=1).amax(dim=(1, 2, 3)), maps[:, 0]

    scores, maps = reference()
    own = detector.score(picture)
    assert own.anomaly_maps is not None
    assert torch.allclose(own.anomaly_maps, maps, atol=1e-4)
    assert torch.allclose(own.image_scores, scores, atol=1e-4)
    print(f"maps, of spread {maps.std():.1e}, differ by {(own.anomaly_maps - maps).abs().max():.0e} at most")
    compare("test image", reference, lambda: detector.score(picture), rounds, 1)
    with torch.inference_mode():
        operations = operations_of(lambda: theirs(picture))
    explain(lambda: detector.score(picture), operations)


PARTS = {"channels": channels, "step": step, "image": image}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--recipe", choices=RECIPES, default="mvtec")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    recipe = replace(RECIPES[options.recipe], image_size=options.size)
    print(f"{torch.get_num_threads()} threads, {options.size}x{options.size} pixels, batch {options.batch}")
    for part in options.parts:
        PARTS[part](recipe, options.batch, options.rounds)


if __name__ == "__main__":
    main()
