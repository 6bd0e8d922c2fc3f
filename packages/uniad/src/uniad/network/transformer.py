"""Encoder, and decoder whose every layer owns its queries (section 3.2); batch first.

The decoder has no path from its input to its output but attention: what comes out was asked for by learned
queries, so it cannot be a copy of what came in.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from uniad.network.attention import Attention
from uniad.network.dropout import Dropout

Barrier = Float[Tensor, "tokens tokens"] | None
Tokens = Float[Tensor, "batch tokens width"]
Positions = Float[Tensor, "tokens width"]
Queries = Literal["layers", "first", "none"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function called `name`: "relu" or "gelu" (exact, by the error function)."""
    if name not in _ACTIVATIONS:
        raise BadValue(f"the activation is '{name}'; expected relu or gelu")
    return _ACTIVATIONS[name]


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual path and a norm."""

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, act: str, *, pre_norm: bool
    ) -> None:
        """Norms stand after each sum, or before each part if `pre_norm`."""
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.act, self.pre_norm = Dropout(dropout), activation(act), pre_norm

    def forward(self, tokens: Tokens, position: Positions, barrier: Barrier) -> Tokens:
        """One layer; values do not get the position."""
        if self.pre_norm:
            tokens = tokens + self.dropout(self._attend(self.norm1(tokens), position, barrier))
            return tokens + self.dropout(_feed(self, self.norm2(tokens)))
        tokens = self.norm1(tokens + self.dropout(self._attend(tokens, position, barrier)))
        return self.norm2(tokens + self.dropout(_feed(self, tokens)))

    def _attend(self, tokens: Tokens, position: Positions, barrier: Barrier) -> Tokens:
        placed = tokens + position
        return self.self_attn(placed, placed, tokens, barrier)


class DecoderLayer(nn.Module):
    """Learned queries look at the encoder's output, then at the layer before; then feed-forward.

    Without queries of its own a layer asks with the one before, as in a common transformer.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        act: str,
        *,
        pre_norm: bool,
    ) -> None:
        """As `EncoderLayer`; the queries, one per token, start standard normal."""
        super().__init__()
        self.learned_embed: nn.Embedding | None = nn.Embedding(tokens, width)
        self.self_attn = Attention(width, heads, dropout)
        self.multihead_attn = Attention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout, self.act, self.pre_norm = Dropout(dropout), activation(act), pre_norm

    def forward(
        self, previous: Tokens, memory: Tokens, position: Positions, barrier: Barrier, barrier_before: Barrier
    ) -> Tokens:
        """One layer.

        Args:
            previous: output of the layer before; of the encoder for the first.
            memory: output of the encoder.
            barrier: keeps the queries from places in `memory`.
            barrier_before: keeps them from places in `previous`.
        """
        queries = previous if self.learned_embed is None else self.learned_embed.weight[None]
        asked = self.norm1(queries) if self.pre_norm else queries
        seen = self.self_attn(asked + position, memory + position, memory, barrier)
        tokens = queries + self.dropout(seen)
        if self.pre_norm:
            placed = self.norm2(tokens) + position
            seen = self.multihead_attn(placed, previous + position, previous, barrier_before)
            tokens = tokens + self.dropout(seen)
            return tokens + self.dropout(_feed(self, self.norm3(tokens)))
        tokens = self.norm1(tokens)
        seen = self.multihead_attn(tokens + position, previous + position, previous, barrier_before)
        tokens = self.norm2(tokens + self.dropout(seen))
        return self.norm3(tokens + self.dropout(_feed(self, tokens)))


class Encoder(nn.Module):
    """A stack of encoder layers, with a last norm if they are of the pre-norm kind."""

    def __init__(self, layer: EncoderLayer, count: int, width: int) -> None:
        """Copy the layer `count` times."""
        super().__init__()
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(count))
        self.norm = nn.LayerNorm(width) if layer.pre_norm else None

    def forward(self, tokens: Tokens, position: Positions, barrier: Barrier) -> Tokens:
        """Encode the tokens."""
        for layer in self.layers:
            tokens = layer(tokens, position, barrier)
        return tokens if self.norm is None else self.norm(tokens)


class Decoder(nn.Module):
    """A stack of decoder layers and a last norm."""

    def __init__(self, layer: DecoderLayer, count: int, width: int, queries: Queries) -> None:
        """Copy the layer `count` times; those that do not ask for themselves lose their queries."""
        super().__init__()
        layers = [deepcopy(layer) for _ in range(count)]
        for mute in layers[{"layers": count, "first": 1, "none": 0}[queries] :]:
            mute.learned_embed = None
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, memory: Tokens, position: Positions, barrier: Barrier, barrier_before: Barrier
    ) -> Tokens:
        """Rebuild the tokens from what the encoder says of them."""
        tokens = memory
        for layer in self.layers:
            tokens = layer(tokens, memory, position, barrier, barrier_before)
        return self.norm(tokens)


class Transformer(nn.Module):
    """Encoder and decoder; where the neighbour mask applies is the caller's choice for each attention."""

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        feedforward: int,
        dropout: float,
        act: str,
        *,
        pre_norm: bool,
        queries: Queries = "layers",
    ) -> None:
        """Copies of one encoder layer and of one decoder layer.

        Args:
            tokens: of an image.
            width: numbers of a token.
            dropout: on attention weights, after both attentions, inside and after the feed-forward network.
            queries: which layers of the decoder have learned ones, the paper's all.
        """
        super().__init__()
        # Faithful: copies share the queries and the input projections they start with.
        encoder = EncoderLayer(width, heads, feedforward, dropout, act, pre_norm=pre_norm)
        decoder = DecoderLayer(tokens, width, heads, feedforward, dropout, act, pre_norm=pre_norm)
        self.encoder = Encoder(encoder, encoder_layers, width)
        self.decoder = Decoder(decoder, decoder_layers, width, queries)

    def forward(
        self, tokens: Tokens, position: Positions, barriers: tuple[Barrier, Barrier, Barrier]
    ) -> Tokens:
        """Rebuild the tokens.

        Args:
            barriers: see `Attention`; in the encoder, from the decoder into the encoder's output, and into
                the decoder layer before.
        """
        in_encoder, to_memory, to_previous = barriers
        memory = self.encoder(tokens, position, in_encoder)
        return self.decoder(memory, position, to_memory, to_previous)


def _feed(layer: EncoderLayer | DecoderLayer, tokens: Tokens) -> Tokens:
    """The feed-forward network of a layer, without its residual path."""
    return layer.linear2(layer.dropout(layer.act(layer.linear1(tokens))))
