"""What config.json of a model folder says, in types and ranges. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta

from adcommon.data.kind import Kind
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.io.model_folder import FORMAT_VERSION
from adcommon.types.arithmetic import Known
from adcommon.types.facts import Facts
from adcommon.types.names import check_name
from adcommon.types.threshold import Threshold
from adcommon.types.values import Count, Seed

R = TypeVar("R")
_LONGEST_TEXT = 1000


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Generic[R]):
    """What every method's config says. A method gives the type of its recipe, and adds what it needs."""

    format_version: Annotated[int, Meta(ge=1, le=FORMAT_VERSION)]
    method: str
    category: str
    """That it was trained on; several are joined by "+"."""
    categories: tuple[str, ...]
    """That it is for."""
    dataset: str
    setting: str
    backbone: str
    weights: str
    seed: Seed
    recipe: R
    preprocess: Preprocess
    threshold: Threshold | None
    metrics: tuple[Mapping[str, Any], ...]
    """Rows of the report."""
    versions: Mapping[str, str]
    """Of the libraries that made it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """See `io.versions.provenance`; also the count and the digest of the training images."""
    kinds: tuple[Kind, ...] = ()
    """What the normal images of each category look like; none where they were too few, or are given later."""
    computed_in: Known | None = None
    """What the precision of the recipe was on the device of the training; older folders say nothing."""
    shots: Count | None = None
    trained_on: str | None = None

    def __post_init__(self) -> None:
        """Refuse names that could lead elsewhere, and values that do not go together."""
        for name in (*self.category.split("+"), *self.categories):
            check_name(name, "category")
        for name, text in self.facts.known().items():
            if isinstance(text, str) and not (text.isprintable() and len(text) <= _LONGEST_TEXT):
                raise BadValue(f"{name} is {text[:60]!a}; expected at most {_LONGEST_TEXT} letters")
        if self.kinds and len(self.kinds) != len(self.categories):
            raise BadValue(f"kinds has {len(self.kinds)} entries; expected {len(self.categories)}, or none")
        for name in ("image_size", "crop_size"):
            ours = getattr(self.preprocess, name)
            if (theirs := getattr(self.recipe, name, ours)) != ours:
                raise BadValue(f"preprocess.{name} is {ours}, recipe.{name} is {theirs}; expected one value")

    @property
    def facts(self) -> Facts:
        """Where the model comes from."""
        names = {entry.name for entry in fields(Facts)} - {"references"}
        return Facts(**{name: getattr(self, name) for name in names})
