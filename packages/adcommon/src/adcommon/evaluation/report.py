"""Several runs in one table, and which of them cannot be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adcommon.errors import BadValue
from adcommon.metrics import auroc
from adcommon.metrics.bootstrap import Category, mean_auroc_difference_interval, mean_auroc_interval
from adcommon.results.rows import COUNTED, EXPERIMENT, Row, different, grouped, mean_rows, table_of
from adcommon.results.scores import CategoryScores
from adcommon.results.tables import Table


@dataclass(frozen=True, slots=True)
class _Line:
    """An experiment of a run, over the categories that all runs have."""

    values: Mapping[str, Any]
    """Its row, or the row of means; `result` is the run's name."""
    scores: Sequence[CategoryScores]
    """Of each category; none where they were not kept."""
    data: tuple[str | None, ...]
    """Digests of the test images of each category; None where it is not known."""
    made: Mapping[str, Any]
    """See `io.versions.provenance`."""

    @property
    def name(self) -> str:
        return str(self.values["name"])

    @property
    def drawn(self) -> list[Category]:
        """What is drawn anew from."""
        return [(each.scores, each.labels) for each in self.scores]


def comparison(results: Mapping[str, Sequence[Row]], scores: Mapping[str, Sequence[CategoryScores]]) -> Table:
    """A line for each experiment, the best image AUROC first: means over the categories that all have.

    Only the standard protocol is compared: numbers under the papers' own protocols do not compare across
    methods. Counts are of the images of all categories.

    Args:
        results: rows by the name to show, such as their folder.
        scores: of the test images, by the same names; what was not kept is said below the table.

    Raises:
        BadValue: no category is in all results.
    """
    standard = {
        name: [row for row in rows if row["protocol"] == "standard"] for name, rows in results.items()
    }
    places = {name: {(row["dataset"], row["category"]) for row in rows} for name, rows in standard.items()}
    common = set.intersection(*places.values()) if places else set()
    if not common:
        had = "; ".join(
            f"{name}: {', '.join(sorted(c for _, c in s)) or 'none'}" for name, s in places.items()
        )
        raise BadValue(f"nothing to compare: no category has standard rows in all results ({had})")

    lines: list[_Line] = []
    for name, rows in standard.items():
        groups = grouped([row for row in rows if (row["dataset"], row["category"]) in common], EXPERIMENT)
        within = different([group[0] for group in groups])
        for group in groups:
            about = ", ".join([name, *(f"{fact} {group[0].get(fact)}" for fact in within)])
            lines.append(_line(name, about, group, scores.get(name, ())))
    lines.sort(key=lambda line: -(line.values["image_auroc"] or 0))
    values = [line.values for line in lines]
    categories = f"{len(common)} categories" if len(common) > 1 else next(iter(common))[1]
    columns = ["result", "method", *(name for name in different(values) if name != "method")]
    table = table_of(f"standard protocol, {categories}", values, columns, {}, intervals=True)
    return Table(table.title, table.lines, [*table.notes, *_told_apart(lines), *_made_otherwise(lines)])


def _line(name: str, about: str, group: Sequence[Row], known: Sequence[CategoryScores]) -> _Line:
    """The rows of an experiment as one, with the interval of the mean, and counts of all images."""
    own = [_scores_of(row, known) for row in group]
    scores = [each for each in own if each is not None] if None not in own else []
    data = tuple(row.get("data") for row in sorted(group, key=lambda row: str(row["category"])))
    made = group[0].get("provenance") or {}
    if len(group) == 1:
        return _Line({**group[0], "result": name, "name": about}, scores, data, made)
    (mean,) = mean_rows(group)
    ends = mean_auroc_interval([(each.scores, each.labels) for each in scores]) if scores else None
    low, high = ends or (None, None)
    counts: dict[str, Any] = {}
    for rate, kind in COUNTED.items():
        decided = [row for row in group if rate in (row.get("extra") or {})]
        if len(decided) == len(group):
            counts[kind] = sum(row[kind] for row in group)
            mean["extra"][rate] = sum(row["extra"][rate] * row[kind] for row in group) / counts[kind]
    return _Line(
        {**mean, **counts, "result": name, "name": about, "image_auroc_low": low, "image_auroc_high": high},
        scores,
        data,
        made,
    )


def _scores_of(row: Row, known: Sequence[CategoryScores]) -> CategoryScores | None:
    """The scores that the row was measured from: a run may keep those of one of several experiments."""
    for each in known:
        kinds = (int((each.labels == 0).sum()), int((each.labels == 1).sum()))
        if each.category == row["category"] and kinds == (row.get("normal"), row.get("anomalous")):
            measured = row.get("image_auroc")
            if measured is not None and abs(auroc(each.scores, each.labels) - measured) < 1e-6:
                return each
    return None


def _told_apart(lines: Sequence[_Line]) -> list[str]:
    """Whether the first is better than the others, as far as scores of the same images tell."""
    best, *others = lines
    better: list[str] = []
    equal: list[str] = []
    unknown: list[str] = []
    for other in others:
        same = [each.images for each in best.scores] == [each.images for each in other.scores]
        ends = mean_auroc_difference_interval(best.drawn, other.drawn) if same and best.scores else None
        (unknown if ends is None else equal if ends[0] <= 0 else better).append(other.name)
    images = f"{sum(len(each.images) for each in best.scores)} test images"
    said = []
    if better:
        said.append(f"{best.name} is better than {_listed(better)} on the same {images}.")
    if equal:
        said.append(
            f"{_listed([best.name, *equal])} cannot be told apart on the same {images}: the 95 % interval of "
            "the difference in image AUROC holds zero."
        )
    if unknown:
        said.append(
            f"Whether {best.name} is better than {_listed(unknown)} by more than chance is not known: scores "
            "of the same images were not kept in both; evaluate with --maps."
        )
    return said


def _made_otherwise(lines: Sequence[_Line]) -> list[str]:
    """The user's notes, and what differs beside the columns: test images, code, libraries, device."""
    said = [f"{line.name}: {line.made['note']}" for line in lines if "note" in line.made]
    if len({line.data for line in lines if all(line.data)}) > 1:
        said.append("THE TEST IMAGES, their masks or their labels DIFFER: these numbers do not compare.")
    known = [line for line in lines if line.made]
    libraries = [line.made["versions"] for line in known]
    facts = [(name, [line.made[name] for line in known]) for name in ("commit", "device")]
    if len({line.values["method"] for line in known}) == 1:
        facts.append(("digest of the recipe", [line.made["recipe"] for line in known]))
    for name in libraries[0] if libraries else ():
        if all(name in versions for versions in libraries):
            facts.append((name, [versions[name] for versions in libraries]))
    for name, values in facts:
        if len(set(values)) > 1:
            each = (f"{value} ({line.name})" for value, line in zip(values, known, strict=True))
            said.append(f"{name} differs: {', '.join(each)}")
    return said


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
