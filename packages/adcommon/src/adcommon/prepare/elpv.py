"""ELPV from its repository, or from the installed package, to the layout of MVTec AD under InCTRL's protocol.

    <data-folder>                                        <save-folder>/elpv
      labels.csv      images/cell0001.png 1.0 mono         train/good/    1,131 cells of probability 0
      images/cell0001.png                                  test/good/       377
                                                           test/mono/       313 cells of probability 1
                                                           test/poly/       402

Source: InCTRL (arXiv 2403.06495).
"""

from pathlib import Path

from adcommon.datasets.embedded import Uncertain, elpv_folder, read_cells, split_cells
from adcommon.errors import BadValue
from adcommon.prepare.plan import Link, Plan, Step, carry_out
from adcommon.prepare.raw import Listing, refuse_missing


def prepare(
    data_folder: Path | None = None,
    save_folder: Path = Path("data"),
    *,
    from_package: bool = False,
    min_probability: float = 1.0,
    include_uncertain: Uncertain = "none",
    link: Link = "copy",
    force: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Prepare ELPV in `save_folder`/elpv.

    Args:
        data_folder: has labels.csv; None with `from_package`.
        save_folder: parent of the prepared tree.
        from_package: take the installed package elpv-dataset.
        min_probability: from which a cell is anomalous.
        include_uncertain: count the cells between 0 and `min_probability` too, as normal or as anomalous.
        link: how images get there.
        force: replace what is in the way.
        dry_run: only plan.

    Returns:
        The plan, with the number of files for each folder, and a note on how many cells were left out.
    """
    if (data_folder is None) != from_package:
        raise BadValue("give either --data-folder DIR (with labels.csv) or --from-package")
    source = data_folder or elpv_folder()
    cells = read_cells(source)
    split = split_cells(cells, min_probability=min_probability, include_uncertain=include_uncertain)
    parts = [("train/good", cell) for cell in split.train]
    parts += [("test/good", cell) for cell in split.good]
    parts += [(f"test/{cell.kind}", cell) for cell in split.anomalous]
    listing = Listing(source)
    steps = [
        Step(f"{folder}/{image.name}", image)
        for folder, cell in parts
        if (image := listing.find(cell.path)) is not None
    ]
    refuse_missing(listing.missing, len(parts), f"labels.csv and images/ belong together in {source}.")
    plan = Plan(
        dataset="elpv",
        source=source,
        folder=save_folder / "elpv",
        steps=steps,
        options={"min_probability": min_probability, "include_uncertain": include_uncertain},
        notes=(f"{len(split.dropped)} cells of uncertain probability were left out",),
    )
    if not dry_run:
        carry_out(plan, link=link, force=force)
    return plan
