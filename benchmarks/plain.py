"""Networks computed by torch's own convolutions, for references."""

from typing import TypeVar

from torch import nn

from adcommon.models import convolution
from realnet.network import convolution as ordered

N = TypeVar("N", bound=nn.Module)
OURS = {
    convolution.Conv2d: nn.Conv2d,
    ordered.Conv2d: nn.Conv2d,
    ordered.ConvTranspose2d: nn.ConvTranspose2d,
}


def plain(network: N) -> N:
    """The same network, without our ways of computing its convolutions."""
    for module in network.modules():
        module.__class__ = OURS.get(type(module), type(module))
    return network
