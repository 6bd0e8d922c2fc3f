"""3x3 convolutions with fewer products on a CPU: Winograd's algorithm, which cuDNN has for GPUs.

    Y = A'[(G g G') * (B' d B)]A

computes a tile of 4x4 outputs from 6x6 inputs d and the kernel g with 36 products for each pair of channels,
where the sum has 144; B, G and A hold powers of a few points. Results are those of the sum up to rounding,
which is about twice as large. Over all tiles the products are 36 matrix products.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308), F(4x4, 3x3).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)

OUT, IN = 4, 6
"""Sides of a tile."""
AT_ONCE = 128
"""Tiles of which everything in between lies in a core's cache."""
FEWEST_CHANNELS, FEWEST_TOGETHER = 64, 192
"""Of inputs and of outputs, and of both. With fewer, or with fewer tiles than below, the sum is as fast."""
LARGEST_KERNEL = 2**19
"""Channels in times channels out; of more the transformed kernel has more than 75 MB."""
FEWEST_TILES_TO_LEARN = 64
"""Of a batch, to make up for transforming the kernel and its gradient, of which there are two."""
FEWEST_VALUES = 4096
"""Of a batch, tiles times channels of the narrower side, where the transformed kernel is kept."""

POINTS = (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
"""Where the polynomials of the algorithm are multiplied, and at infinity. With 0, 1, -1, 2 and -2, as in the
paper, rounding is five times as large."""


def _powers(count: int) -> Float[Tensor, "6 {count}"]:
    """Of each point, and of infinity, whose highest alone counts; in float64."""
    rows = [[point**power for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64, device="cpu")


INPUT = torch.linalg.inv(_powers(IN)).T.float().contiguous()
"""B', of the inputs."""
OUTPUT = _powers(OUT).T.float().contiguous()
"""A', of the products."""
BACK = OUTPUT.T.contiguous()
BOTH_KERNEL = torch.kron(_powers(3), _powers(3)).float()
"""G on both axes of a kernel, whose entries lie in a row."""

Weight = Float[Tensor, "out in 3 3"]
Map = Float[Tensor, "batch in height width"]


def quicken(network: N) -> N:
    """The same network, whose 3x3 convolutions are computed as `Conv2d` does where that pays.

    Entries and results, up to rounding, stay.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _suits(module):
            module.__class__ = Conv2d
    return network


class Conv2d(nn.Conv2d):
    """torch's, with the same entries; of 3x3, stride 1, in float32 on a CPU with fewer products."""

    _kept: "_Kernels | None" = None

    def forward(self, x: Map) -> Float[Tensor, "batch out out_height out_width"]:
        """The convolution."""
        learns = _learns(self.weight)
        if learns:
            self._kept = None  # fused optimisers change weights and leave no trace on them
        if not self.has_fewer_products(x):
            return super().forward(x)
        if learns:
            return _Convolve.apply(x, self.weight, self.bias, None)
        if self._kept is None or not self._kept.source.is_still(self.weight):
            self._kept = _Kernels(Source.of(self.weight))
        if torch.is_grad_enabled():
            return _Convolve.apply(x, self.weight, self.bias, self._kept)
        return _convolved(x, self._kept.kernel, self.bias)

    def has_fewer_products(self, x: Map) -> bool:
        """True if that pays for these inputs."""
        # Compilation comes first, because an exported batch has no number.
        return not torch.compiler.is_compiling() and _suits(self) and _pays(x, self.weight)


@dataclass(frozen=True, slots=True)
class Source:
    """Weights as they were when something was made of them; held, so that no others come to lie there."""

    weight: Tensor
    version: int

    @classmethod
    def of(cls, weight: Tensor) -> "Source":
        """These weights, as they are now."""
        return cls(weight.detach(), weight._version)

    def is_still(self, weight: Tensor) -> bool:
        """True if these are the weights, unchanged since; what a fused optimiser changes is not noticed."""
        return self.weight.data_ptr() == weight.data_ptr() and self.version == weight._version


@dataclass(slots=True)
class _Kernels:
    """Transformed weights; kept while nothing learns, in four times their memory."""

    source: Source
    _kernel: Tensor | None = None
    _turned: Tensor | None = None

    @property
    def kernel(self) -> Float[Tensor, "36 channels out"]:
        """As the products take it."""
        if self._kernel is None:
            self._kernel = self._transformed(BOTH_KERNEL).transpose(1, 2)
        return self._kernel

    @property
    def turned(self) -> Float[Tensor, "36 out channels"]:
        """That of the convolution which takes slopes back: turned by 180 degrees, channels exchanged."""
        if self._turned is None:
            self._turned = self._transformed(BOTH_KERNEL.flip(1))
        return self._turned

    def _transformed(self, matrix: Float[Tensor, "36 9"]) -> Float[Tensor, "36 out channels"]:
        weight = self.source.weight
        if weight.is_contiguous():
            nine = weight.view(-1, 9).T.contiguous()
        else:
            nine = weight.permute(2, 3, 0, 1).reshape(9, -1)
        return (matrix @ nine).view(IN * IN, *weight.shape[:2])

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Nothing is copied or stored."""
        return type(None), ()


def _suits(module: nn.Conv2d) -> bool:
    return (
        module.kernel_size == (3, 3)
        and module.stride == module.dilation == (1, 1)
        and module.padding in ((1, 1), "same")
        and module.padding_mode == "zeros"
        and module.groups == 1
        and min(module.in_channels, module.out_channels) >= FEWEST_CHANNELS
        and module.in_channels + module.out_channels >= FEWEST_TOGETHER
        and module.in_channels * module.out_channels <= LARGEST_KERNEL
    )


def _pays(x: Tensor, weight: Tensor) -> bool:
    if not (x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.ndim == 4):
        return False
    if weight.is_inference():  # no trace of its changes
        return False
    tiles = len(x) * _tiles(x.shape[2]) * _tiles(x.shape[3])
    values = tiles * min(weight.shape[:2])
    enough = tiles >= FEWEST_TILES_TO_LEARN if _learns(weight) else values >= FEWEST_VALUES
    return enough and not torch.is_autocast_enabled("cpu")


def _learns(weight: Tensor) -> bool:
    return torch.is_grad_enabled() and weight.requires_grad


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kept: _Kernels | None) -> Tensor:
        ctx.save_for_backward(x, weight)  # which notices a change of either before the way back
        ctx.kept = kept
        return _convolved(x, (kept or _Kernels(Source.of(weight))).kernel, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        kernels = ctx.kept or _Kernels(Source.of(weight))
        return (
            _convolved(slope, kernels.turned, None) if of_x else None,
            _weight_slope(x, slope, weight) if of_weight else None,
            slope.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _convolved(x: Map, kernel: Float[Tensor, "36 channels out"], bias: Tensor | None) -> Tensor:
    batch, channels, height, width = x.shape
    down, across, out = _tiles(height), _tiles(width), kernel.shape[2]
    # In the layout of x, so that nothing after it has to be laid out anew.
    layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
    size = batch, out, OUT * down, OUT * across
    result = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
    squares = result.permute(0, 2, 3, 1).unflatten(2, (across, OUT)).unflatten(1, (down, OUT))
    for some, inputs in _pieces(x):
        moved = _on_both_axes(INPUT, inputs)
        products = torch.bmm(moved.view(IN * IN, -1, channels), kernel)
        tiles = squares[some]
        outputs = _on_both_axes(OUTPUT, products).view(OUT, OUT, *tiles.shape[:2], across, out)
        outputs = outputs.permute(2, 3, 0, 4, 1, 5)
        if bias is None:
            tiles.copy_(outputs)
        else:
            torch.add(outputs, bias, out=tiles)
    return result[:, :, :height, :width]


def _weight_slope(x: Map, slope: Float[Tensor, "batch out height width"], weight: Weight) -> Weight:
    """The transposed algorithm: the slopes' tiles become 6x6, and the sums over all tiles 3x3."""
    batch, channels, height, width = x.shape
    down, across, out = _tiles(height), _tiles(width), slope.shape[1]
    padding = (0, 0, 0, OUT * across - width, 0, OUT * down - height)
    squares = F.pad(slope.permute(0, 2, 3, 1), padding).view(batch, down, OUT, across, OUT, out)
    products = x.new_zeros(IN * IN, out, channels)
    for some, inputs in _pieces(x):
        moved = _on_both_axes(INPUT, inputs).view(IN * IN, -1, channels)
        slopes = _on_both_axes(BACK, squares[some].permute(2, 4, 0, 1, 3, 5)).view(IN * IN, -1, out)
        products.baddbmm_(slopes.transpose(1, 2), moved)
    nine = BOTH_KERNEL.T @ products.flatten(1)
    if weight.is_contiguous():
        return nine.T.contiguous().view_as(weight)
    rows = nine.view(9, out, channels).transpose(0, 1).contiguous()
    return rows.view(out, 3, 3, channels).permute(0, 3, 1, 2)


def _pieces(x: Map) -> Iterator[tuple[tuple[slice, slice], Float[Tensor, "6 6 images rows across in"]]]:
    """Images and rows of tiles, `AT_ONCE` or fewer together if a row has fewer, with each tile's inputs.

    Around an image there are zeros. The inputs are views, which the next piece overwrites.
    """
    batch, channels, height, width = x.shape
    down, across = _tiles(height), _tiles(width)
    images = max(1, AT_ONCE // (down * across))
    rows = max(1, AT_ONCE // across) if images == 1 else down
    padded = x.new_zeros(min(images, batch), OUT * min(rows, down) + 2, OUT * across + 2, channels)
    of_batch, of_row, of_column, of_channel = padded.stride()
    for first in range(0, batch, images):
        for top in range(0, down, rows):
            last, bottom = min(first + images, batch), min(top + rows, down)
            begin, end = max(OUT * top - 1, 0), min(OUT * bottom + 1, height)
            pixels = x[first:last, :, begin:end].permute(0, 2, 3, 1)
            above = begin - (OUT * top - 1)
            below = above + end - begin
            padded[:, :above] = 0
            padded[: last - first, above:below, 1 : width + 1] = pixels
            padded[:, below:] = 0
            inputs = padded.as_strided(
                (IN, IN, last - first, bottom - top, across, channels),
                (of_row, of_column, of_batch, OUT * of_row, OUT * of_column, of_channel),
            )
            yield (slice(first, last), slice(top, bottom)), inputs


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _on_both_axes(matrix: Float[Tensor, "to from"], tiles: Tensor) -> Float[Tensor, "to_to rest"]:
    """The matrix times each tile times its transpose; the tiles' axes are the first ones, in one or two."""
    to, of = matrix.shape
    first = matrix @ tiles.reshape(of, -1)
    return torch.matmul(matrix, first.view(to, of, -1)).view(to * to, -1)


def _tiles(side: int) -> int:
    return -(-side // OUT)
