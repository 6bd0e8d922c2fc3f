"""PartialNorm: batch norm that distrusts channels whose batch variance falls below what pretraining saw.

It replaces the trained encoder's batch norm in the "stable" experiments of the authors' repository.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from adcommon.errors import BadValue


class PartialNorm(nn.Module):
    """Batch norm over (N, H, W) with a floor under the variance, one per channel.

    With v the batch variance, v_pre the running variance at construction or at the last load of a state dict,
    and v_min = min(v_pre, var_threshold): training normalises by v where its unbiased value exceeds v_min,
    else by the constant v_min, and the running variance follows whichever was used. In eval mode it is
    ordinary batch norm. The state dict is that of `nn.BatchNorm2d`; v_pre is a buffer outside it.
    """

    # Not a subclass of BatchNorm2d: torch's conversion to SyncBatchNorm would silently undo it.

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    pretrained_var: Tensor

    def __init__(
        self,
        channels: int,
        var_threshold: float,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        name: str = "PartialNorm",
        activation: nn.Module | None = None,
    ) -> None:
        """A layer with weight 1, bias 0 and running statistics (0, 1).

        Args:
            name: what an error calls the layer.
            activation: applied to the result, for timm's layers that fuse norm and activation.
        """
        super().__init__()
        self.var_threshold, self.eps, self.momentum, self.name = var_threshold, eps, momentum, name
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))  # never counted: only keeps the layout
        self.register_buffer("pretrained_var", torch.ones(channels), persistent=False)
        self.register_load_state_dict_post_hook(_remember_variance)
        self.activation = nn.Identity() if activation is None else activation

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d, var_threshold: float, name: str) -> "PartialNorm":
        """The layer that takes over weights, statistics, epsilon and momentum of an ordinary one."""
        if norm.momentum is None or not norm.affine or not norm.track_running_stats:
            raise BadValue(f"{name}: PartialNorm replaces batch norm with weights and running averages only")
        activation = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else None
        partial = cls(
            norm.num_features,
            var_threshold,
            eps=norm.eps,
            momentum=norm.momentum,
            name=name,
            activation=activation,
        )
        partial.to(norm.weight.device, norm.weight.dtype).load_state_dict(norm.state_dict())
        return partial.train(norm.training)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Normalise; in training mode also move the running statistics."""
        if not self.training:
            statistics = (self.running_mean, self.running_var)
            return self.activation(
                F.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.eps)
            )
        count = x.numel() // x.shape[1]
        if count == 1:
            raise BadValue(
                f"{self.name}: training needs more than one value per channel, got input of shape "
                f"{tuple(x.shape)}; use --batch-size 2 or larger, or larger images"
            )
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        var, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        unbiased_var = var.detach() * (count / (count - 1))
        min_var = self.pretrained_var.clamp(max=self.var_threshold)
        trusted = unbiased_var > min_var
        self._track(mean.detach(), torch.where(trusted, unbiased_var, min_var))

        scale = self.weight * torch.rsqrt(torch.where(trusted, var, min_var) + self.eps)
        normalised = (values - _per_channel(mean)) * _per_channel(scale) + _per_channel(self.bias)
        return self.activation(normalised.to(x.dtype))

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, " channels"], var: Float[Tensor, " channels"]) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        """Channels and constants, for printing a model."""
        constants = f"eps={self.eps}, momentum={self.momentum}, var_threshold={self.var_threshold}"
        return f"{len(self.weight)}, {constants}"


def replace_norms(module: nn.Module, var_threshold: float) -> None:
    """Put a PartialNorm in the place of every batch norm of `module`; the state dict keeps its names.

    Raises:
        BadValue: the module has no batch norm.
    """
    norms = {name: norm for name, norm in module.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    if not norms:
        raise BadValue(
            "the backbone has no batch norm that PartialNorm could replace; "
            "choose a --backbone that has it, such as resnet18.tv_in1k"
        )
    for name, norm in norms.items():
        module.set_submodule(name, PartialNorm.from_batch_norm(norm, var_threshold, name))


def _remember_variance(layer: PartialNorm, _: object) -> None:
    layer.pretrained_var.copy_(layer.running_var)


def _per_channel(values: Float[Tensor, " channels"]) -> Float[Tensor, "1 channels 1 1"]:
    return values[None, :, None, None]
