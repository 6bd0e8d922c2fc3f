"""What the trainings of the diffusion model and of its classifier have in common; no torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.io.schema import check_fields
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.values import (
    AboveZero,
    Count,
    Depth,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
    Side,
    Width,
)
from realnet.network.structure import GROUPS

MOST_TIMESTEPS = 100_000
"""Of the diffusion process; tables of them are kept."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(Arithmetic):
    """What the trainings of the diffusion model and of its classifier have in common."""

    kind: ClassVar[str]
    """Of the network: "diffusion" or "classifier"."""

    dataset: str = "mvtec"
    """Dataset name; `ad datasets` lists them. One network learns all of its categories."""
    meta_train: Path | None = None
    """JSON lines of the training images, as the authors' train_uni.json."""
    image_dir: Path | None = None
    """Folder that the paths in the list are relative to. [default: the folder of the list]"""

    image_size: Side = 256
    """Side after the resize, pixels."""
    upright: bool = False
    """Apply the photographs' EXIF orientation."""
    hflip: bool = False
    """Mirror half of the training images left to right."""
    vflip: bool = False
    """Mirror half of the training images top to bottom."""
    rotate: bool = False
    """Turn training images by 0, 90, 180 or 270 degrees."""

    width: Width = 256
    """Channels of the network, to be multiplied by `channel_mult`."""
    depth: Depth = 2
    """Residual blocks on each level."""
    channel_mult: Annotated[tuple[AboveZero | Positive, ...], Parameter(consume_multiple=True)] = (
        1,
        1,
        2,
        2,
        4,
        4,
    )
    """Channels of each level, finest first, in units of `width`."""
    attention_at: Annotated[tuple[Positive, ...], Parameter(consume_multiple=True)] = (8, 16, 32)
    """Levels with attention, by their downsampling factor; the authors' `attention_resolutions`."""
    dropout: ShareBelowOne = 0.0
    """Dropout of the residual blocks while training."""
    checkpoint_activations: bool = False
    """Compute intermediate values a second time instead of keeping them: less memory, a third slower."""
    init_from: Path | None = None
    """Start from this model folder of ours, or from a checkpoint of the authors."""

    timesteps: Positive = 1000
    """Steps of the diffusion process."""
    noise_schedule: str = "linear"
    """How the noise grows: linear, cosine, or const0.01 and the like."""
    rescale_times: bool = False
    """Tell the network times of a process of 1000 steps, whatever `timesteps` is."""

    epochs: Positive = 1000
    """Passes over the training images."""
    iterations: Positive | None = None
    """Stop after this many batches; none: after `epochs`."""
    batch_size: Positive = 20
    """Images per batch, over all processes."""
    chunk_size: Positive = 5
    """Images per pass through the network: a batch is passed in parts, which saves memory and changes
    nothing else."""
    seed: Seed = 100
    """Seed of initialisation, order, times and noise."""
    lr: NotNegative = 1e-4
    """Learning rate of Adam."""
    adam_beta1: ShareBelowOne = 0.9
    """Decay of the first moment."""
    adam_beta2: ShareBelowOne = 0.999
    """Decay of the second moment."""
    weight_decay: NotNegative = 0.0
    """Weight decay of every parameter, part of the gradient."""
    clip_norm: AboveZero = 1.0
    """Largest norm of all gradients together."""
    keep_epochs: Count = 2
    """Number of interim models that are kept, the latest ones."""
    channels_last: bool = True

    pretrained: str | None
    """OpenAI's file that `--weights pretrained` starts from; none fits a network of another shape."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        check_fields(self)
        if not self.channel_mult:
            raise BadValue("channel_mult is empty; expected factors such as 1 2 4")
        if self.timesteps > MOST_TIMESTEPS:
            raise BadValue(f"timesteps is {self.timesteps}; expected at most {MOST_TIMESTEPS}")
        last = len(self.channel_mult) - 1
        if self.image_size < 2**last or self.image_size % 2**last:
            raise BadValue(
                f"image_size is {self.image_size}; the network halves it {last} times, "
                f"which needs a multiple of {2**last} pixels"
            )
        for level, factor in enumerate(self.channel_mult):
            channels = int(factor * self.width)
            if channels < 1 or channels % GROUPS:
                raise BadValue(
                    f"level {level} would have {channels} channels; expected a multiple of {GROUPS}: "
                    f"width {self.width} times channel_mult {factor}"
                )
            attends = level == last or 2**level in self.attention_at
            if attends and channels % self.head_channels:
                raise BadValue(
                    f"level {level} has attention and {channels} channels; expected a multiple of the "
                    f"heads' {self.head_channels}"
                )
        known = {2**level for level in range(last + 1)}
        if unknown := set(self.attention_at) - known:
            raise BadValue(
                f"attention_at has {', '.join(map(str, sorted(unknown)))}; the levels' downsampling factors "
                f"are {', '.join(map(str, sorted(known)))}"
            )

    @property
    def method(self) -> str:
        """What config.json of a model folder calls the network."""
        return f"realnet-{self.kind}"

    @property
    def head_channels(self) -> int:
        """Channels of an attention head; those of a classifier are fixed."""
        return 64
