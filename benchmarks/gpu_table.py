"""The table of what `gpu.sh` found, in Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> str:
    """One page: what it is of, then a table for each kind of part, and what was not measured and why."""
    header, parts = result["header"], result["parts"]
    lines = [f"**{header['device']}**; " + ", ".join(f"{k} {v}" for k, v in header.items() if k != "device")]
    of = {kind: [part for part in parts if part["kind"] == kind] for kind in kinds(parts)}
    stepped = [*of.get("steps", ()), *of.get("compiled", ())]
    tested = [{**row, "failed": " ".join(row["failed"]), "output": ""} for row in good(of.get("tests", ()))]
    for title, rows in (
        ("Training step", step_rows(stepped)),
        ("Scoring, host to host, fp32", latency_rows(of.get("steps", ()))),
        ("Trainings, by their own speed.csv", training_rows(of.get("training", ()))),
        ("Exact metrics on the host while scoring", good(of.get("scoring", ()))),
        ("Two processes", good(of.get("processes", ()))),
        ("Tests", tested),
    ):
        lines += section(f"{title}: {parts[0]['device']}", rows)
    unwell = [
        f"- {part['kind']} {part['about']}: {part['status']}" for part in parts if part["status"] != "done"
    ]
    unwell += [
        f"- {part['kind']} {part['about']}: {row['error'].strip().splitlines()[-1][:200]}"
        for part in parts
        for row in part["rows"]
        if "error" in row
    ]
    return "\n".join([*lines, *(["", "Not measured, or not whole:", "", *unwell] if unwell else [])]) + "\n"


def kinds(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(part["kind"] for part in parts))


def good(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows without error."""
    return [row for part in parts for row in part["rows"] if "error" not in row]


def step_rows(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """A row for each way to compute a step; the ratio is to the reference-style one, above 1: faster."""
    rows, reference = [], {}
    for part in parts:
        for row in part["rows"]:
            if "seconds" not in row or row["way"] == "scoring":
                continue
            if row["way"] == "reference":
                reference[part["about"]] = row["seconds"]
            slow = reference.get(part["about"])
            rows.append(
                {
                    "method": part["about"],
                    "step": row["way"],
                    "precision": row["precision"],
                    "features": "kept" if row["kept"] else "computed",
                    "images": f"{row['images']} of {row['image_size']} px",
                    "ms": 1000 * row["seconds"],
                    "images/s": row["images"] / row["seconds"],
                    "times the reference": slow / row["seconds"] if slow else None,
                    "peak MB": row["peak_memory_mb"],
                    "first loss": row["first_loss"],
                }
            )
    return sorted(rows, key=lambda row: list(dict.fromkeys(r["method"] for r in rows)).index(row["method"]))


def latency_rows(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Percentiles of single calls."""
    return [
        {"method": part["about"], **{name: value for name, value in row.items() if name != "way"}}
        for part in parts
        for row in part["rows"]
        if row.get("way") == "scoring" and "error" not in row
    ]


def training_rows(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """The first reading, which decodes images, and the last."""
    return [
        {
            "command": row["command"],
            "reading": when,
            **{name: float(value) if value else None for name, value in row[f"{when}_reading"].items()},
            "GPU busy %": row["gpu_busy_percent"],
        }
        for row in good(parts)
        for when in ("first", "last")
    ]


def section(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """A heading and its rows; nothing where there are none."""
    if not rows:
        return []
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(shown(row[column]) for column in columns)} |" for row in rows]
    return ["", f"## {title}", "", *lines]


def shown(value: object) -> str:
    """Four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value).replace("\n", " ").replace("|", "/")
