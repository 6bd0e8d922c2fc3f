"""The vector quantiser of normal residuals: trained beside the rest, used at test time only."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

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
        codes = self.embedding.weight
        distances = codes.square().sum(dim=1) - 2 * rows @ codes.T  # the row's own square decides nothing
        return distances.argmin(dim=1)

    def forward(self, rows: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
        """The nearest code of each row."""
        return self.embedding(self.nearest(rows))

    def loss(self, rows: Float[Tensor, "rows channels"]) -> tuple[Float[Tensor, ""], Int64[Tensor, " rows"]]:
        """mean((sg(q) - r)^2) + 0.25 mean((q - sg(r))^2), and which codes were used; 0 without rows.

        Residuals carry no gradient, so the first term is a constant: codes learn from a quarter of the error.
        """
        with torch.no_grad():
            used = self.nearest(rows)
        if not len(rows):
            return self.embedding.weight.sum() * 0, used
        error = (self.embedding(used) - rows.detach()).square().mean()
        return error.detach() + COMMITMENT * error, used


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
