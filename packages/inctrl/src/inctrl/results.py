"""Mean and deviation over the draws of references, beside the paper's; no torch here."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from adcommon.io.files import atomic_write
from adcommon.results.rows import METRICS, Row
from inctrl.published import PUBLISHED

_SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "aupro")


def summary(rows: Sequence[Row], *, paper: bool) -> str:
    """A Markdown table: a line per dataset and number of references, and one per category if it has several.

    A dataset's value of one draw is the mean over its categories. After ± stands the standard deviation over
    the draws (n - 1); of one draw there is none.

    Args:
        paper: stand the paper's image AUROC beside ours; for its own recipes.
    """
    groups: dict[tuple[str, int | None], list[Row]] = {}
    for entry in rows:
        groups.setdefault((entry["dataset"], entry["shots"]), []).append(entry)
    shown = [name for name in _SHOWN if any(entry.get(name) is not None for entry in rows)]
    head = ["dataset", "category", "references", "draws", *(METRICS[name] for name in shown)]
    lines = [[*head, "paper, image AUROC"] if paper else head]
    for (dataset, shots), entries in groups.items():
        categories = list(dict.fromkeys(entry["category"] for entry in entries))
        draws = list(dict.fromkeys((entry["seed"], entry.get("references")) for entry in entries))
        for category in (*(categories if len(categories) > 1 else ()), None):
            cells = []
            for name in shown:
                values = [_mean_of_draw(entries, draw, name, category) for draw in draws]
                cells.append(_spread([value for value in values if value is not None]))
            title = category or ("mean" if len(categories) > 1 else categories[0])
            line = [dataset, title, str(shots), str(len(draws)), *cells]
            if paper:
                known = PUBLISHED.get(dataset, {}).get(shots or 0) if category is None else None
                line.append(f"{100 * known[0]:.1f} ± {100 * known[1]:.1f}" if known else "")
            lines.append(line)
    rule = "|" + " --- |" * len(lines[0])
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([body[0], rule, *body[1:]]) + "\n"


def write_summary(folder: Path, rows: Sequence[Row], *, paper: bool) -> str:
    """Write `summary.md` and return its text."""
    text = summary(rows, paper=paper)
    atomic_write(folder / "summary.md", text)
    return text


def _mean_of_draw(
    rows: Sequence[Row], draw: tuple[int, str | None], metric: str, category: str | None
) -> float | None:
    values = [
        entry[metric]
        for entry in rows
        if (entry["seed"], entry.get("references")) == draw and category in (None, entry["category"])
    ]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * statistics.fmean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean
