"""The flags that mean the same in every command, and how a recipe becomes a command line.

A recipe is a frozen dataclass; each of its fields is a flag whose help text is the field's docstring.
Values come from the command line, else from `--config FILE`, else from the recipe. No torch here.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Dict, Yaml
from cyclopts.types import ExistingFile

from adcommon.errors import BadValue, Stopped, UserError, unknown_name

R = TypeVar("R")
S = TypeVar("S", bound="Settings")

RECIPE_GROUP = Group("Recipe", sort_key=2)
SETTINGS_GROUP = Group("Where and how to run", sort_key=1)


@Parameter(name="*", group=SETTINGS_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every training command takes besides its recipe; none of it changes the numbers."""

    data_root: Path | None = None
    """Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]"""
    data: Path | None = None
    """A folder of my own images; short for `--dataset folder --data-root DIR`."""
    category: Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Categories to run. [default: all]"""
    out: Path | None = None
    """Folder for everything the run leaves behind. [default: save-dir/save-name]"""
    save_dir: Path = Path("runs")
    """Parent of the run's folder, as the papers' scripts name it."""
    save_name: str | None = None
    """Name of the run's folder. [default: the command's name]"""
    gpu: str | None = None
    """Number of the GPU, or `cpu`. [default: the first GPU if there is one]"""
    device: str | None = None
    """Device by its torch name: cpu, cuda:1, mps."""
    weights: str = "pretrained"
    """Backbone weights: `pretrained`, `random` (for trials only), or a file."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process."""
    cache: bool = True
    """Keep decoded, resized images on disk, so that each is decoded once."""
    resume: bool = False
    """Continue a run that was stopped or killed, from its last saved state."""
    force: bool = False
    """Overwrite the run's folder."""
    save_every: Annotated[int | None, Parameter(show_default=False)] = None
    """Steps between saved states for `--resume`. [default: every evaluation]"""
    maps: bool = False
    """Write a picture of every test image's anomaly map."""
    eval_size: Literal["map", "original"] = "map"
    """Size of the standard pixel metrics: the network's input, or each image's own."""
    false_alarm_rate: float = 0.05
    """Rate at which the stored decision threshold may call a normal image anomalous."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        if not 0 < self.false_alarm_rate < 1:
            raise BadValue(f"--false-alarm-rate is {self.false_alarm_rate}; expected a value between 0 and 1")
        if self.gpu is not None and self.device is not None:
            raise BadValue("--gpu and --device were both given; use one of them")
        if self.save_every is not None and self.save_every < 1:
            raise BadValue(f"--save-every is {self.save_every}; expected at least 1 step")
        if self.resume and self.force:
            raise BadValue("--resume keeps the run's folder and --force empties it; use one of them")

    def root(self) -> Path:
        """The folder where datasets are looked for."""
        return self.data or self.data_root or default_root()

    def folder(self, name: str) -> Path:
        """The run's folder; `name` is the command's."""
        return self.out or self.save_dir / (self.save_name or name)

    def as_flags(self) -> dict[str, Any]:
        """The values to write down with a run, by flag name; not how it was to be continued."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: value
            for name, value in given.items()
            if value is not None and name not in ("resume", "force")
        }


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """What every evaluation of a trained model takes."""

    model: Annotated[Path, Parameter(alias="--checkpoint")]
    """The `model` folder that a training run left."""
    dataset: str | None = None
    """Dataset name; `ad datasets` lists them. [default: the one the model was trained on]"""
    data_root: Path | None = None
    """Folder that holds the datasets, or the dataset itself. [default: $AD_DATA, else ./data]"""
    data: Path | None = None
    """A folder of my own images; short for `--dataset folder --data-root DIR`."""
    category: Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    """Categories to evaluate. [default: those the model was trained on]"""
    out: Path = Path("evaluation")
    """Folder for results.json, tables and pictures."""
    gpu: str | None = None
    """Number of the GPU, or `cpu`. [default: the first GPU if there is one]"""
    device: str | None = None
    """Device by its torch name: cpu, cuda:1, mps."""
    batch_size: int = 16
    """Images per batch."""
    workers: int = 0
    """Processes that load images; 0 loads in this process."""
    cache: bool = True
    """Keep decoded, resized images on disk."""
    maps: bool = False
    """Write a picture of every test image's anomaly map."""
    eval_size: Literal["map", "original"] = "map"
    """Size of the standard pixel metrics: the network's input, or each image's own."""

    def root(self) -> Path:
        """The folder where datasets are looked for."""
        return self.data or self.data_root or default_root()


def default_root() -> Path:
    """Where datasets are looked for if nothing is said: $AD_DATA, else ./data."""
    return Path(os.environ.get("AD_DATA", "data"))


def with_defaults(recipe: R) -> type[R]:
    """The recipe's class with this recipe's values as its defaults, so that one flag changes one field."""
    cls = type(recipe)
    namespace: dict[str, Any] = {
        "__annotations__": {entry.name: entry.type for entry in fields(cls)},  # type: ignore[arg-type]
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
    }
    namespace |= {name: getattr(recipe, name) for name in namespace["__annotations__"]}
    return dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), namespace))


def execute(app: App, rewrite: Callable[[list[str]], list[str]] | None = None) -> None:
    """Run a command on the process's arguments; a user's mistake is one message and exit code 2.

    Args:
        rewrite: makes our flags of arguments in another style, before they are parsed.
    """
    try:
        words = sys.argv[1:]
        app(rewrite(words) if rewrite else words, exit_on_error=False)
    except CycloptsError:
        sys.exit(2)  # cyclopts has printed its message
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as message:
        print(message, file=sys.stderr)
        sys.exit(143)
    except BrokenPipeError:  # `... | head` has seen enough; nothing may be flushed into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _values(path: Path, read_config: Callable[[Path], Mapping[str, Any] | None] | None) -> Dict | Yaml:
    """What a configuration file says, in our form or in the authors'."""
    translated = read_config(path) if read_config else None
    return Yaml(path, must_exist=True) if translated is None else Dict(dict(translated), source=str(path))


def experiment(
    name: str,
    body: Callable[[str, R, S], None],
    recipes: Mapping[str, R],
    default: str,
    summary: str,
    read_config: Callable[[Path], Mapping[str, Any] | None] | None = None,
    settings_type: type[S] = Settings,  # type: ignore[assignment]
    rewrite: Callable[[list[str]], list[str]] | None = None,
) -> None:
    """A training command: parse recipe and settings, then call `body` with the recipe's name and both.

    Args:
        recipes: by name; with more than one the command has `--recipe NAME`.
        default: the recipe that is used when none is named.
        read_config: the values, by flag, of a configuration file in the form of the method's authors; None
            for a file that is not in their form.
        settings_type: `Settings`, or a method's own dataclass with further flags.
        rewrite: as for `execute`.
    """
    app = App(name=name, help=summary)
    names = tuple(recipes)

    def register(base: str) -> None:
        recipe_type = with_defaults(recipes[base])
        flat = Parameter(name="*", group=RECIPE_GROUP, negative_iterable=())

        def command(
            *,
            recipe: Annotated[recipe_type, flat] = recipe_type(),  # type: ignore[valid-type]  # noqa: B008
            settings: settings_type = settings_type(),  # type: ignore[valid-type]  # noqa: B008
        ) -> None:
            body(base, recipe, settings)

        app.default(command)

    register(default)
    chooser = Parameter(group=SETTINGS_GROUP, show=len(recipes) > 1)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Annotated[
            tuple[ExistingFile, ...], Parameter(group=SETTINGS_GROUP, negative=(), show_default=False)
        ] = (),
        recipe: Annotated[str, chooser] = default,
    ) -> None:
        """Choose the recipe and the files that change it.

        Args:
            config: YAML file with any of the flags below; may be given several times, the last one wins.
            recipe: the paper's experiment to start from.
        """
        if recipe not in recipes:
            raise unknown_name("recipe", recipe, names)
        if recipe != default:
            app.default_command = None
            register(recipe)
        app.config = [_values(path, read_config) for path in reversed(config)]
        app(tokens, exit_on_error=False)

    execute(app.meta, rewrite)
