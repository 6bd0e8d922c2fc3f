"""Mean and deviation over the draws of references, beside the paper's; no torch here."""

from collections.abc import Sequence
from pathlib import Path

from adcommon.io.files import atomic_write
from adcommon.results.rows import Row, grouped
from adcommon.results.spread import spread
from adcommon.results.tables import markdown_row, percent
from adcommon.results.words import METRICS
from inctrl.published import PUBLISHED

_SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "aupro")


def summary(rows: Sequence[Row], *, paper: bool) -> str:
    """A Markdown table: a line per dataset and number of references, and one per category if it has several.

    A dataset's value of one draw is the mean over its categories. After ± stands the standard deviation over
    the draws (n - 1); of one draw there is none.

    Args:
        paper: stand the paper's image AUROC beside ours; for its own recipes.
    """
    shown = [name for name in _SHOWN if any(entry.get(name) is not None for entry in rows)]
    head = ["dataset", "category", "references", "draws", *(METRICS[name] for name in shown)]
    lines = [[*head, "paper, image AUROC"] if paper else head]
    for group in grouped(spread(rows), ("dataset", "shots")):
        for found in group:
            cells = [percent(found[name], found[f"{name}_std"]) for name in shown]
            line = [found["dataset"], found["category"], str(found["shots"]), str(found["runs"]), *cells]
            if paper:
                known = PUBLISHED.get(found["dataset"], {}).get(found["shots"] or 0)
                line.append(
                    f"{100 * known[0]:.1f} ± {100 * known[1]:.1f}" if known and found is group[-1] else ""
                )
            lines.append(line)
    rule = "|" + " --- |" * len(lines[0])
    body = list(map(markdown_row, lines))
    return "\n".join([body[0], rule, *body[1:]]) + "\n"


def write_summary(folder: Path, rows: Sequence[Row], *, paper: bool) -> str:
    """Write `summary.md` and return its text."""
    text = summary(rows, paper=paper)
    atomic_write(folder / "summary.md", text)
    return text
