"""Multi-head attention of tokens that may not look at their own neighbourhood (section 3.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from uniad.network.dropout import dropped_attention


def neighbour_mask(grid: tuple[int, int], neighbourhood: tuple[int, int]) -> Bool[Tensor, "tokens tokens"]:
    """True where token t must not attend to token u: u lies in the neighbourhood of t, t itself included.

    Args:
        grid: rows and columns of tokens; token y * columns + x lies at (y, x).
        neighbourhood: height and width around t, in tokens; an even side acts like the next odd one.

    Raises:
        BadValue: some token would have nothing left to attend to.
    """
    reach = [side // 2 for side in neighbourhood]
    if all(side <= 2 * far + 1 for side, far in zip(grid, reach, strict=True)):
        fits = 2 * max(0, (max(grid) - 2) // 2) + 1
        raise BadValue(
            f"a grid of {grid[0]}x{grid[1]} tokens lies inside the neighbourhood of "
            f"{neighbourhood[0]}x{neighbourhood[1]} that attention must not see, so nothing would be left; "
            f"use larger images, or --neighbourhood {fits} {fits}"
        )
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    near_rows = (rows[:, None] - rows[None]).abs() <= reach[0]
    near_columns = (columns[:, None] - columns[None]).abs() <= reach[1]
    return near_rows & near_columns


def barrier_of(forbidden: Bool[Tensor, "queries tokens"]) -> Float[Tensor, "queries tokens"]:
    """What attention adds to its logits so that it does not look at forbidden places."""
    return torch.zeros(forbidden.shape).masked_fill_(forbidden, float("-inf"))


class Attention(nn.Module):
    """Scaled dot-product attention with packed input projections; entries are named as in torch's own.

    No weights are returned: nobody reads them, and without them the fused kernels of torch can be used.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Input projections Xavier uniform over the packed matrix, biases 0.

        Args:
            width: of tokens, a multiple of `heads`.
            dropout: probability on the attention weights while training.
        """
        super().__init__()
        if width % heads:
            raise BadValue(f"tokens of {width} numbers cannot be split into {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "query_batch queries width"],
        key: Float[Tensor, "batch tokens width"],
        value: Float[Tensor, "batch tokens width"],
        barrier: Float[Tensor, "queries tokens"] | None,
    ) -> Float[Tensor, "batch queries width"]:
        """Attend to `value` at the places where `key` fits `query`.

        Args:
            query: a batch of 1 serves all images and is projected once.
            barrier: added to the logits, 0 where a query may look and -inf where not; None: everywhere.
        """
        of_query, of_key, of_value = self.in_proj_weight.chunk(3)
        query_bias, key_bias, value_bias = self.in_proj_bias.chunk(3)
        queries = self._split(F.linear(query, of_query, query_bias)).expand(key.shape[0], -1, -1, -1)
        keys = self._split(F.linear(key, of_key, key_bias))
        values = self._split(F.linear(value, of_value, value_bias))
        dropout = self.dropout if self.training else 0.0
        if dropout and queries.device.type == "cpu":
            weights = _weights(queries, keys, barrier).to(values.dtype)
            mixed = dropped_attention(weights, values, dropout)
        else:
            mixed = F.scaled_dot_product_attention(
                queries, keys, values, attn_mask=barrier, dropout_p=dropout
            )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens _"]:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _weights(
    query: Float[Tensor, "batch heads queries width"],
    key: Float[Tensor, "batch heads tokens width"],
    barrier: Float[Tensor, "queries tokens"] | None,
) -> Float[Tensor, "batch heads queries tokens"]:
    """The share of each token in what each query gets; torch's fused kernels have no dropout on a CPU."""
    scale = query.shape[-1] ** -0.5
    if barrier is None:
        return (query @ key.transpose(-1, -2) * scale).softmax(dim=-1)
    keys = key.flatten(0, 1).transpose(-1, -2)
    logits = torch.baddbmm(barrier.to(query.dtype), query.flatten(0, 1), keys, alpha=scale)
    return logits.unflatten(0, query.shape[:2]).softmax(dim=-1)
