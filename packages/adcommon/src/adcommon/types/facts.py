"""Where a model and its results come from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a model folder and every row of a report say of their origin."""

    method: str
    dataset: str
    """That was tested on; without `trained_on` it was trained on too."""
    setting: str
    """"one-class", "multi-class", "few-shot" or "zero-shot"."""
    backbone: str
    """The network's exact tag."""
    weights: str
    """Where its weights come from: "pretrained", "random" or a file."""
    seed: int
    shots: int | None = None
    """Normal reference images per category, if the method takes any."""
    trained_on: str | None = None
    """Dataset of the training, where it is another than the test's."""
    references: str | int | None = None
    """Which draw of reference images."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Facts":
        """What a model folder's config says."""
        names = {entry.name for entry in fields(cls)} - {"references"}
        return cls(**{name: config[name] for name in names & config.keys()})

    def known(self) -> dict[str, Any]:
        """What is known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
