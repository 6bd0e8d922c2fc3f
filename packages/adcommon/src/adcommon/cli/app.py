"""How a recipe becomes a command line, and how a command ends.

A recipe is a frozen dataclass; each of its fields is a flag whose help text is the field's docstring.
Values come from the command line, else from `--config FILE`, else from the recipe. No torch here.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, make_dataclass, replace
from datetime import date
from io import TextIOWrapper
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from cyclopts import App, ArgumentCollection, CycloptsError, Group, Parameter
from cyclopts.config import Dict
from cyclopts.types import ExistingFile

from adcommon.cli.recipes import changes, recipe_list
from adcommon.errors import BadValue, Stopped, UserError, unknown_name
from adcommon.io.memory import keep_freed_memory
from adcommon.io.schema import read_yaml, shown
from adcommon.results.rows import Published
from adcommon.training.logging import start_logging
from adcommon.training.recipes import flags_of, values_of
from adcommon.training.settings import SETTINGS_GROUP, Settings

R = TypeVar("R")
S = TypeVar("S", bound="Settings")

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = re.compile("out of memory|(can't|not enough memory.*) allocate", re.IGNORECASE)
"""How torch says it, on a GPU and on the CPU."""
_SCALARS = str | int | float | date | None
RECIPE_GROUP = Group("Recipe", sort_key=2)
Files = Annotated[tuple[ExistingFile, ...], Parameter(group=SETTINGS_GROUP, negative=(), show_default=False)]


def with_defaults(recipe: R) -> type[R]:
    """The recipe's class with this recipe's values as its defaults, so that one flag changes one field."""
    cls = type(recipe)
    values = [(entry.name, entry.type, getattr(recipe, entry.name)) for entry in fields(cls)]  # type: ignore[arg-type]
    namespace = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return make_dataclass(cls.__name__, values, bases=(cls,), namespace=namespace, frozen=True, kw_only=True)


def execute(
    app: App,
    rewrite: Callable[[list[str]], list[str]] | None = None,
    completed: App | None = None,
) -> None:
    """Run a command on the process's arguments; a user's mistake is one message and exit code 2.

    Args:
        rewrite: makes our flags of arguments in another style, before they are parsed.
        completed: holds the flags that `--install-completion` writes down for a shell, if `app` does not.
    """
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):  # names of files may be anything; a closed stream is None
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    completed = completed or app
    if "--install-completion" not in completed:  # `ad` lives as long as the process
        completed.register_install_completion_command(show=False)  # shown, it adds COMMAND to the usage
    try:
        words = sys.argv[1:]
        app(rewrite(words) if rewrite else words, exit_on_error=False)
    except CycloptsError:
        sys.exit(2)  # cyclopts has printed its message
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:  # `... | head` has seen enough; nothing may be flushed into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{named}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        print("error: not enough memory; take smaller batches or images", file=sys.stderr)
        sys.exit(2)


def command(
    name: str, body: Callable[..., None], rewrite: Callable[[list[str]], list[str]] | None = None
) -> None:
    """A command without a recipe: the parameters of `body` are its flags, and its docstring is its help."""
    app = App(name=name)
    app.default(body)
    execute(app, rewrite)


def from_files(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take the flags of a command that has `config` from the files that it names, as `App(config=...)`."""
    (config,) = (argument for argument in arguments if "--config" in argument.names)
    for path in [Path(token.value) for token in reversed(config.tokens)]:
        if path.is_file():  # else the command's own error says so
            Dict(_flags_in(path), source=str(path), use_commands_as_keys=False)(app, commands, arguments)


def _translated(
    path: Path, read_config: Callable[[Path], Mapping[str, Any] | None] | None
) -> dict[str, Any] | None:
    """The values of flags in a file of the authors' form; None: it is of ours."""
    try:
        translated = read_config(path) if read_config else None
    except UserError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise BadValue(f"{path} has not the form of the authors' files: {error}") from error
    return None if translated is None else dict(translated)


def _said_in_files(
    words: Sequence[str], read_config: Callable[[Path], Mapping[str, Any] | None] | None
) -> list[str]:
    """The flags in files of our form that a command line names, the last file first.

    None of files that cannot be read, which is said where they are used.
    """
    paths = [Path(value) for value in reversed(values_of("--config", words))]
    try:
        return _as_words([_flags_in(path) for path in paths if _translated(path, read_config) is None])
    except (UserError, OSError):
        return []


def _as_words(files: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"--{flag}={value}" for file in files for flag, value in file.items() if value is not None]


def _flags_in(path: Path) -> dict[str, Any]:
    """The values of flags in a file of our form."""
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadValue(f"{path} holds {shown(content)}; expected flags and their values, NAME: VALUE")
    for name, value in content.items():
        entries = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not all(isinstance(one, _SCALARS) for one in entries):
            raise BadValue(f"{path}: {name} is {shown(value)}; expected a value, or a list of values")
        if name.replace("_", "-").lstrip("-") in ("config", "recipe", "help", "version"):
            raise BadValue(f"{path}: {name} has no effect in a file; give it on the command line")
    return content


def experiment(
    name: str,
    body: Callable[[str, R, S], None],
    recipes: Mapping[str, R],
    default: str | Callable[[Sequence[str]], str],
    summary: str,
    read_config: Callable[[Path], Mapping[str, Any] | None] | None = None,
    settings_type: type[S] = Settings,  # type: ignore[assignment]
    rewrite: Callable[[list[str]], list[str]] | None = None,
    ablations: Mapping[str, R] = MappingProxyType({}),
    published: Mapping[str, Published] = MappingProxyType({}),
) -> None:
    """A training command: parse recipe and settings, then call `body` with the recipe's name and both.

    Args:
        recipes: by name; with more than one the command has `--recipe NAME`.
        default: the recipe that is used when none is named, or what chooses it by the flags that are given,
            on the command line or in a file of our form.
        read_config: the values, by flag, of a configuration file in the form of the method's authors; None
            for a file that is not in their form.
        settings_type: `Settings`, or a method's own dataclass with further flags.
        rewrite: as for `execute`.
        ablations: further recipes, which are listed apart.
        published: the paper's numbers by recipe, which `--list-recipes` shows beside them.
    """
    known = {**recipes, **ablations}
    choose = default if callable(default) else lambda words: default
    words = sys.argv[1:]
    named = [one for one in values_of("--recipe", words) if one in known]
    usual = named[0] if named else choose([*words, *_said_in_files(words, read_config)])  # --help shows it
    begin = f"\n\nTo begin with: {name} --data DIR --recipe small --maps" if "small" in recipes else ""
    app = App(name=name, help=summary + begin)
    given: set[str] = set()

    def register(base: str) -> None:
        recipe_type = with_defaults(known[base])
        flat = Parameter(name="*", group=RECIPE_GROUP, negative_iterable=())

        def command(
            *,
            recipe: Annotated[recipe_type, flat] = recipe_type(),  # type: ignore[valid-type]  # noqa: B008
            settings: settings_type = settings_type(),  # type: ignore[valid-type]  # noqa: B008
        ) -> None:
            start_logging(None)  # what is found in the data is said, and kept for the run's log.txt
            changed = changes(recipe, known[base])
            logger.info("recipe %s%s", base, f" with {changed}" if changed else "")
            body(base, recipe, replace(settings, given=tuple(sorted(given))))

        app.default(command)

    register(usual)
    chooser = Parameter(
        group=SETTINGS_GROUP,
        show=len(known) > 1,
        help=f"The experiment to start from: {', '.join(recipes)}" + ", or an ablation." * bool(ablations),
    )
    lister = Parameter(group=SETTINGS_GROUP, show=len(known) > 1, negative=(), show_default=False)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: Files = (),
        recipe: Annotated[str, chooser] = usual,
        list_recipes: Annotated[bool, lister] = False,
    ) -> None:
        """Choose the recipe and the files that change it.

        Args:
            config: YAML file with any of the flags below; may be given several times, the last one wins.
            recipe: name of what to start from.
            list_recipes: Print every recipe, what it changes and the paper's numbers, and end.
        """
        if list_recipes:
            print(recipe_list(name, recipes, ablations, published))
            return
        theirs = {path: _translated(path, read_config) for path in reversed(config)}
        files = {path: _flags_in(path) if values is None else values for path, values in theirs.items()}
        if "--recipe" not in flags_of(sys.argv):
            ours = [files[path] for path, values in theirs.items() if values is None]
            recipe = choose([*tokens, *_as_words(ours)])
        if recipe not in known:
            raise unknown_name("recipe", recipe, known)
        if "--accumulate" in flags_of(tokens) and not hasattr(known[recipe], "accumulate"):
            raise BadValue(
                f"{name} has no --accumulate: in parts of a batch, batch norm and other statistics of it "
                "would be others, and so would the numbers (docs/clusters.md). Share the batch among several "
                "GPUs by torchrun, or change the recipe with --batch-size"
            )
        if recipe != usual:
            app.default_command = None
            register(recipe)
        app.config = [Dict(values, source=str(path)) for path, values in files.items()]
        named = (*flags_of(tokens), *(flag for values in files.values() for flag in values))
        given.update(flag.lstrip("-").replace("-", "_") for flag in named)
        app(tokens, exit_on_error=False)

    execute(app.meta, rewrite, completed=app)
