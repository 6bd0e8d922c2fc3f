"""The moving average of a network's weights, which is what is validated, saved and sampled from."""

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """An average e <- d e + (1 - d) p over the whole state of a network, begun at its initial weights."""

    def __init__(self, network: nn.Module, decay: float, *, warm_up: bool = False) -> None:
        """Copy the network as it is.

        Args:
            decay: d; with `warm_up` at most (1 + n) / (10 + n) after n updates, which soon forgets the
                initial weights.
        """
        self.decay, self.warm_up = decay, warm_up
        self.updates = 0
        self._source = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's present weights."""
        self.updates += 1
        warm = (1 + self.updates) / (10 + self.updates) if self.warm_up else 1.0
        decay = min(self.decay, warm)
        present, average = self._source.state_dict(), self.network.state_dict()
        torch._foreach_lerp_(list(average.values()), [present[name] for name in average], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The average and how often it moved."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.updates = state_dict["updates"]
        self.network.load_state_dict(state_dict["network"])
