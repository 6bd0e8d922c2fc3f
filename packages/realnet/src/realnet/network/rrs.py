"""Reconstruction-residual selection: the most anomalous residual channels become a map (section 3.4).

Per image, the channels with the largest maximum and those with the largest mean are taken, in falling order;
a small decoder turns them into logits of two classes, normal and anomalous, per pixel.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from adcommon.models.convolution import Conv2d
from realnet.network.afs import upsample
from realnet.network.reconstruction import ResidualStack

Modes = Sequence[tuple[str, int]]
"""How channels are ranked, "max", "mean" or not at all, and how many each ranking takes."""


class RRS(nn.Module):
    """Selection and decoder: residuals of all blocks -> logits."""

    def __init__(
        self,
        channels: int,
        modes: Modes = (("max", 256), ("mean", 256)),
        *,
        residual_layers: int = 2,
        stop_grad: bool = False,
    ) -> None:
        """All layers start as PyTorch initialises them; `channels` are those of all residuals together."""
        super().__init__()
        self.modes = tuple(modes)
        self.stop_grad = stop_grad
        chosen = sum(count for _, count in self.modes)
        self.bn_idx = nn.BatchNorm2d(channels, momentum=0.9, affine=False)
        self.decoder1 = nn.Sequential(
            ResidualStack(chosen, chosen, residual_layers),
            Conv2d(chosen, 128, 3, padding=1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
        )
        self.decoder2 = _two_convolutions(128, 32, 8, last=nn.ReLU())
        self.decoder3 = _two_convolutions(8, 4, 2)

    def forward(
        self, residuals: Sequence[Float[Tensor, "batch _ _ _"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch 2 height width"]:
        """Logits at `size`; the second channel is that of anomalous pixels.

        Args:
            residuals: squared differences, one map per block; the first that is finest sets the grid.
        """
        joined = join(residuals)
        if self.stop_grad:
            joined = joined.detach()
        x = self.decoder1(gather(joined, torch.cat(self.choose(joined.detach()), dim=1)))
        # Faithful: the reference resizes to squares of twice the width; these are squares there.
        double = (2 * joined.shape[2], 2 * joined.shape[3])
        x = self.decoder3(upsample(self.decoder2(x), double))
        return upsample(x, size)

    @torch.no_grad()
    def choose(
        self, residual: Float[Tensor, "batch channels height width"]
    ) -> list[Int64[Tensor, "batch _"]]:
        """Channels by falling score, one list per mode; scores are comparable between channels.

        Unranked are the first channels, of every image the same.

        The reference normalises every pixel to rank two numbers per channel. Both numbers pass through the
        normalisation, so it is applied to them instead.
        """
        mean, deviation = (value[None] for value in self._statistics(residual))
        scores = {"max": lambda: residual.amax(dim=(2, 3)), "mean": lambda: residual.mean(dim=(2, 3))}
        return [
            torch.arange(count, device=residual.device).expand(len(residual), count)
            if mode == "unranked"
            else ((scores[mode]() - mean) / deviation).topk(count, dim=1, sorted=True).indices
            for mode, count in self.modes
        ]

    def _statistics(
        self, residual: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Mean and standard deviation that normalise each channel: of the batch in training, else stored."""
        norm = self.bn_idx
        assert norm.running_mean is not None  # both are always tracked here
        assert norm.running_var is not None
        mean, variance = norm.running_mean, norm.running_var
        if self.training:
            variance, mean = torch.var_mean(residual, dim=(0, 2, 3), correction=0)
            count = residual[:, 0].numel()
            if isinstance(norm, nn.SyncBatchNorm):
                mean, variance = over_processes(mean, variance)
                count *= torch.distributed.get_world_size()
            assert norm.momentum is not None
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
        return mean, (variance + norm.eps).sqrt()


def join(residuals: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch channels height width"]:
    """All residuals on the finest grid among them, channel after channel."""
    grid = max((tuple(residual.shape[2:]) for residual in residuals), key=lambda side: side[0] * side[1])
    return torch.cat([upsample(residual, grid) for residual in residuals], dim=1)


def gather(
    maps: Float[Tensor, "batch channels height width"], channels: Int64[Tensor, "batch chosen"]
) -> Float[Tensor, "batch chosen height width"]:
    """The chosen channels of each image, in its own order; a channel may come twice."""
    first = maps.shape[1] * torch.arange(maps.shape[0], device=maps.device)[:, None]
    rows = maps.flatten(0, 1).index_select(0, (first + channels).flatten())
    return rows.unflatten(0, channels.shape)


def over_processes(
    mean: Float[Tensor, " channels"], variance: Float[Tensor, " channels"]
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and population variance over the equal shares of all processes."""
    moments = torch.stack([mean, variance + mean.square()])
    torch.distributed.all_reduce(moments)
    mean, square = moments / torch.distributed.get_world_size()
    return mean, square - mean.square()


def _two_convolutions(channels: int, hidden: int, out: int, last: nn.Module | None = None) -> nn.Sequential:
    layers = [nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, out, 3, padding=1)]
    return nn.Sequential(*layers, *([] if last is None else [last]))
