"""Draws how each method works: `uv run python docs/figures/methods.py` writes the SVG files beside it."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

FILL = {"data": "#ffffff", "frozen": "#cfd8dc", "learns": "#ffccbc", "result": "#c8e6c9"}
MEANING = {"frozen": "fixed", "learns": "learned", "result": "result"}
COLUMN, ROW, WIDTH, HEIGHT, EDGE, LINE = 146, 84, 122, 58, 16, 15
"""Of the grid and of a box, in pixels."""


@dataclass(frozen=True)
class Box:
    """Lines of text at a place of the grid."""

    text: str
    column: float
    row: float
    kind: str = "data"

    @property
    def middle(self) -> tuple[float, float]:
        """In pixels."""
        return EDGE + self.column * COLUMN + WIDTH / 2, EDGE + self.row * ROW + HEIGHT / 2


FIGURES: dict[str, tuple[str, dict[str, Box], str]] = {
    "baselines": (
        "PaDiM and PatchCore: patch features of normal images, kept as Gaussians or in a memory",
        {
            "image": Box("image", 0, 0.5),
            "net": Box("network", 1, 0.5, "frozen"),
            "patch": Box("patch features\nevery place", 2, 0.5),
            "gauss": Box("PaDiM\na Gaussian for\nevery place", 3, 0, "learns"),
            "memory": Box("PatchCore\ncoreset of all\nnormal patches", 3, 1, "learns"),
            "far": Box("Mahalanobis\ndistance", 4, 0),
            "near": Box("distance to the\nnearest patch", 4, 1),
            "map": Box("anomaly map\nmaximum = score", 5, 0.5, "result"),
        },
        "image>net net>patch patch>gauss patch>memory gauss>far memory>near far>map near>map",
    ),
    "recontrast": (
        "ReContrast: two encoders, crossed pairs of features and reconstructions",
        {
            "image": Box("image", 0, 0.5),
            "trained": Box("encoder", 1, 0, "learns"),
            "frozen": Box("encoder_freeze", 1, 1, "frozen"),
            "decoder": Box("bottleneck\nand decoder", 2, 0.5, "learns"),
            "first": Box("from_trained", 3, 0),
            "second": Box("from_frozen", 3, 1),
            "one": Box("cosine distance\nto frozen_features", 4, 0),
            "two": Box("cosine distance to\ntrained_features", 4, 1),
            "map": Box("six maps, summed\n= anomaly map", 5, 0.5, "result"),
        },
        "image>trained image>frozen trained>decoder frozen>decoder decoder>first decoder>second "
        "first>one second>two one>map two>map",
    ),
    "realnet": (
        "RealNet: anomalies are made, features that see them are selected, residuals are decoded",
        {
            "normal": Box("normal image", 0, 0),
            "made": Box("with a blended\npiece (training)", 1, 0),
            "net": Box("network", 2, 0, "frozen"),
            "afs": Box("AFS: channels that\nsee anomalies", 3, 0, "learns"),
            "features": Box("features of\neach block", 4, 0),
            "unet": Box("U-Net of\neach block", 4, 1, "learns"),
            "residual": Box("squared residual", 3, 1),
            "rrs": Box("RRS: residuals\nthat stand out", 2, 1),
            "decoder": Box("decoder", 1, 1, "learns"),
            "map": Box("probability of\nevery pixel", 0, 1, "result"),
        },
        "normal>made made>net net>afs afs>features features>unet unet>residual residual>rrs rrs>decoder "
        "decoder>map",
    ),
    "uniad": (
        "UniAD: a transformer rebuilds the features of a frozen network and is kept from copying them",
        {
            "image": Box("image of any\ncategory", 0, 0),
            "net": Box("network", 1, 0, "frozen"),
            "tokens": Box("tokens of one\n14 x 14 grid", 2, 0),
            "noise": Box("+ noise\n(training)", 3, 0),
            "encoder": Box("encoder: not its\nown neighbourhood", 4, 0, "learns"),
            "decoder": Box("decoder: queries\nof each layer", 4, 1, "learns"),
            "rebuilt": Box("rebuilt tokens", 3, 1),
            "distance": Box("distance at\nevery place", 2, 1),
            "map": Box("anomaly map", 1, 1, "result"),
        },
        "image>net net>tokens tokens>noise noise>encoder encoder>decoder decoder>rebuilt rebuilt>distance "
        "tokens>distance distance>map",
    ),
    "inctrl": (
        "InCTRL: residuals of a query to a few normal references, judged by two small heads",
        {
            "query": Box("query", 0, 0),
            "references": Box("k normal\nreferences", 0, 1),
            "text": Box("sentences:\nnormal, damaged", 0, 2),
            "clip": Box("CLIP's image\ntower", 1, 0.5, "frozen"),
            "words": Box("CLIP's text\ntower", 1, 2, "frozen"),
            "adapter": Box("adapter:\nF = refs - query", 2, 0, "learns"),
            "patches": Box("M: distance to the\nnearest patch", 2, 1),
            "said": Box("s_a: sounds\nanomalous", 2, 2),
            "image": Box("head: s_i", 3, 0, "learns"),
            "head": Box("head: s_h of\nM + s_i + s_a", 4, 1, "learns"),
            "score": Box("score: mean of\ns_h and max M", 5, 1, "result"),
        },
        "query>clip references>clip text>words clip>adapter clip>patches words>said adapter>image image>head "
        "patches>head said>head head>score",
    ),
    "resad": (
        "ResAD: residuals to the nearest reference patch, constrained, then judged by a flow",
        {
            "image": Box("image", 0, 0),
            "references": Box("2 to 8 normal\nreferences", 0, 1),
            "net": Box("network", 1, 0.5, "frozen"),
            "residual": Box("residual to the\nnearest patch", 2, 0.5),
            "matched": Box("moved to normal\nresiduals (test)", 3, 0),
            "constraint": Box("constraintor:\nnormal in a shell", 3, 1, "learns"),
            "flow": Box("normalising flow", 4, 1, "learns"),
            "map": Box("likelihood of\nevery place", 4, 0, "result"),
        },
        "image>net references>net net>residual residual>matched residual>constraint matched>constraint "
        "constraint>flow flow>map",
    ),
}
"""By method: title, boxes, arrows."""


def arrow(start: Box, end: Box) -> str:
    """From edge to edge: straight in a row or a column, else with two corners."""
    (x, y), (to_x, to_y) = start.middle, end.middle
    if start.column == end.column:
        down = HEIGHT / 2 if to_y > y else -HEIGHT / 2
        path = f"M{x:g} {y + down:g}V{to_y - down:g}"
    else:
        right = WIDTH / 2 if to_x > x else -WIDTH / 2
        corner = to_x - right - (COLUMN - WIDTH) / 2 * (1 if right > 0 else -1)
        path = f"M{x + right:g} {y:g}H{corner:g}V{to_y:g}H{to_x - right:g}"
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def box(place: Box) -> str:
    """A rectangle and its lines."""
    x, y = place.middle
    lines = place.text.split("\n")
    first = y - LINE * (len(lines) - 1) / 2 + 4
    text = "".join(
        f'<text x="{x:g}" y="{first + LINE * number:g}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    corner = f'x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}"'
    return f'<rect {corner} width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILL[place.kind]}"/>{text}'


def draw(name: str) -> str:
    """The SVG of a method."""
    title, boxes, arrows = FIGURES[name]
    width = EDGE * 2 + WIDTH + COLUMN * max(place.column for place in boxes.values())
    bottom = EDGE * 2 + HEIGHT + ROW * max(place.row for place in boxes.values())
    legend = "".join(
        f'<rect x="{EDGE + 90 * number}" y="{bottom:g}" width="12" height="12" rx="2" fill="{FILL[kind]}"/>'
        f'<text x="{EDGE + 18 + 90 * number}" y="{bottom + 10:g}" class="key">{meaning}</text>'
        for number, (kind, meaning) in enumerate(MEANING.items())
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {bottom + 24:g}" role="img">',
        f"<title>{escape(title)}</title>",
        "<style>rect,path{stroke:#455a64;stroke-width:1.3}path{fill:none}"
        "text{font:12.5px sans-serif;text-anchor:middle;fill:#263238}.key{text-anchor:start}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8Z" style="fill:#455a64;stroke:none"/></marker>',
        f'<rect width="{width:g}" height="{bottom + 24:g}" rx="8" fill="#fafafa" style="stroke:none"/>',
        *(arrow(*(boxes[end] for end in pair.split(">"))) for pair in arrows.split()),
        *map(box, boxes.values()),
        legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    for figure in FIGURES:
        Path(__file__).with_name(f"{figure}.svg").write_text(draw(figure), encoding="utf-8")
