"""What the commands around the diffusion model take besides their recipes; no torch here."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from adcommon.options import SETTINGS_GROUP, Settings


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Where and how the two networks are trained; none of it changes the numbers beyond rounding."""

    weights: str = "pretrained"
    """What the network starts from: `pretrained` (OpenAI's file, where the recipe names one), `random`, or a
    file of OpenAI's or of the authors."""
    channels_last: bool = False
    """Keep each pixel's channels together in memory, which is faster on GPUs."""
    compile: bool = False
    """Let torch.compile make the network faster; the first steps take minutes."""
    pictures: bool = True
    """Write pictures at each validation."""
    save_official: Path | None = None
    """File for the trained network in the layout of the authors' checkpoints."""
