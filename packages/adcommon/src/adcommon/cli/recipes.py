"""What `--list-recipes` of a training prints, and how a recipe differs from another."""

from collections.abc import Mapping
from dataclasses import fields

from adcommon.results.rows import Published


def recipe_list(
    name: str,
    recipes: Mapping[str, object],
    ablations: Mapping[str, object],
    published: Mapping[str, Published],
) -> str:
    """Each recipe, the flags in which it differs from the method's defaults, and the paper's means.

    Args:
        name: of the command.
        published: the paper's numbers by recipe and category, fractions.
    """
    width = max(map(len, [*recipes, *ablations]))

    def lines(some: Mapping[str, object]) -> list[str]:
        said = {
            key: (changes(recipe, type(recipe)()) or "the defaults") + _means(published.get(key))
            for key, recipe in some.items()
        }
        return [f"  {key:{width}}  {changes}" for key, changes in said.items()]

    head = f"{name} --recipe NAME; NAME, what differs from the defaults, the paper's means:"
    without = ["ablations, which take a part of the method away:", *lines(ablations)] if ablations else []
    return "\n".join([head, *lines(recipes), *without])


def changes(recipe: object, base: object) -> str:
    """The flags that make a recipe of another one of its kind; empty: they are equal."""
    values = {entry.name: getattr(recipe, entry.name) for entry in fields(recipe)}  # type: ignore[arg-type]
    return " ".join(_flag(key, value) for key, value in values.items() if value != getattr(base, key))


def _flag(name: str, value: object) -> str:
    flag = name.replace("_", "-")
    if value is None or value == ():
        return f"(no {flag})"
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{flag}", *map(str, values)])


def _means(rows: Published | None) -> str:
    if not rows:
        return ""
    means = rows.get("mean") or next(iter(rows.values()))
    return "  | " + ", ".join(f"{metric} {100 * value:.2f}" for metric, value in means.items())
