"""The vector quantiser of normal residuals: trained beside the rest, used at test time only."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from adcommon.models.neighbours import nearest_distances

COMMITMENT = 0.25
"""Weight of the term whose gradient reaches the codes."""


class VectorQuantiser(nn.Module):
    """A book of codes for one level."""

    def __init__(self, num_embeddings: int, channels: int) -> None:
        """Codes uniform within 1 / `num_embeddings` of zero."""
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, channels)
        nn.init.uniform_(self.embedding.weight, -1 / num_embeddings, 1 / num_embeddings)

    def nearest(self, rows: Float[Tensor, "rows channels"]) -> Int64[Tensor, " rows"]:
        """Index of the code with the smallest Euclidean distance to each row."""
        return nearest_distances(rows, self.embedding.weight)[1][:, 0]

    def forward(self, rows: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
        """The nearest code of each row."""
        return self.embedding(self.nearest(rows))

    def loss(
        self, rows: Float[Tensor, "rows channels"], mask: Bool[Tensor, " rows"] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """mean((sg(q) - r)^2) + 0.25 mean((q - sg(r))^2), and how many codes were used; 0 without rows.

        Residuals carry no gradient, so the first term is a constant: codes learn from a quarter of the error.

        Args:
            mask: rows that are left out.
        """
        kept = torch.ones_like(rows[:, 0]) if mask is None else (~mask).to(rows.dtype)
        with torch.no_grad():
            nearest = self.nearest(rows)
            hits = kept.new_zeros(self.embedding.num_embeddings).index_add_(0, nearest, kept)
        errors = (self.embedding(nearest) - rows.detach()).square().mean(dim=1)
        error = (errors * kept).sum() / kept.sum().clamp(min=1)
        return error.detach() + COMMITMENT * error, (hits > 0).sum().to(rows.dtype)


class Quantisers(nn.Module):
    """One book per level, named `vq1`, `vq2`, ... as in the authors' checkpoints."""

    def __init__(self, num_embeddings: int, channels: list[int]) -> None:
        """Build a book for each level's number of channels."""
        super().__init__()
        for level, width in enumerate(channels, start=1):
            self.add_module(f"vq{level}", VectorQuantiser(num_embeddings, width))

    def __getitem__(self, level: int) -> VectorQuantiser:
        """The book of a level, counted from 0."""
        book = self.get_submodule(f"vq{level + 1}")
        if not isinstance(book, VectorQuantiser):
            raise TypeError(f"vq{level + 1} is a {type(book).__name__}")
        return book
