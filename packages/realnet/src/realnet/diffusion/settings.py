"""What the commands around the diffusion model take besides their recipes; no torch here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from adcommon.errors import BadValue
from adcommon.training.launch import Launch
from adcommon.training.settings import SETTINGS_GROUP, Settings
from adcommon.types.values import Metrics, Rate

_HIDDEN = Parameter(show=False)


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Where and how the networks run; none of it changes the numbers beyond rounding."""

    category: Annotated[
        tuple[str, ...], Parameter(alias="--class-name", consume_multiple=True, show_default=False)
    ] = ()
    """Categories, in the order of their class numbers; `all` for every one. [default: all]"""
    unread: ClassVar[tuple[str, ...]] = ("maps", "eval_size", "metrics", "false_alarm_rate")
    """Flags that nothing here reads: a diffusion model scores no images."""

    maps: Annotated[bool, _HIDDEN] = False
    eval_size: Annotated[Literal["map", "original"], _HIDDEN] = "map"
    metrics: Annotated[Metrics, _HIDDEN] = "exact"
    false_alarm_rate: Annotated[Rate, _HIDDEN] = 0.05

    def __post_init__(self) -> None:
        """Refuse what other trainings take and nothing here would read."""
        super().__post_init__()
        for name in self.unread:
            if getattr(self, name) != getattr(Settings, name):
                raise BadValue(
                    f"--{name.replace('_', '-')} has no effect here; leave it out, realnet-train takes it"
                )


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class TrainSettings(NetworkSettings):
    """What the two trainings take."""

    weights: str = "pretrained"
    """What the network starts from: `pretrained` (OpenAI's file, where the recipe names one), `random`, or a
    file of OpenAI's or of the authors."""
    pictures: bool = True
    """Write pictures at each validation."""
    save_official: Path | None = None
    """File for the trained network in the layout of the authors' checkpoints."""


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class SampleSettings(NetworkSettings):
    """What drawing takes."""

    unread = (*NetworkSettings.unread, "weights", "save_every", "workers", "track", "profile")
    """Nor does drawing load images, begin with another network's weights, or have steps to track or trace."""
    launch: Annotated[Launch, Parameter(parse=False)] = Launch()  # noqa: RUF009 - frozen
    check: bool = False
    """Draw nothing; report how well the model rebuilds training images and show what it draws at strength 0
    and at the two ends of --strength."""
