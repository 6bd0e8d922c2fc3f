"""ISIC 2018 task 3 from its four archives to ReContrast's one-class split: nevi are normal.

    <source>                                                 <target>
      ISIC2018_Task3_Training_Input/ISIC_0024306.jpg           train/NORMAL/    6,705 training images
      ISIC2018_Task3_Training_GroundTruth/<same name>.csv      test/NORMAL/       123 validation images
      ISIC2018_Task3_Validation_Input, .._GroundTruth          test/ABNORMAL/      70 validation images

The test set of the challenge is not used. Source: ReContrast (arXiv 2306.02602).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, refuse_missing, unnested
from adcommon.errors import BadValue, DatasetNotFound

NORMAL = "NV"
"""Column of melanocytic nevi."""
DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


@dataclass(frozen=True, kw_only=True)
class Isic2018:
    """Nevi against everything else."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has the four unpacked archives, and may lie in `target`."""
        train = read_diagnoses(source, "Training")
        test = read_diagnoses(source, "Validation")
        wanted = [("Training", name, "train/NORMAL") for name, diagnosis in train if diagnosis == NORMAL]
        wanted += [
            ("Validation", name, "test/NORMAL" if diagnosis == NORMAL else "test/ABNORMAL")
            for name, diagnosis in test
        ]
        listings = {part: Listing(_folder(source, f"{part}_Input")) for part in ("Training", "Validation")}
        steps = [
            Step(f"{folder}/{image.name}", image)
            for part, name, folder in wanted
            if (image := listings[part].find(f"{name}.jpg")) is not None
        ]
        missing = listings["Training"].missing + listings["Validation"].missing
        refuse_missing(missing, len(wanted), "Unpack the archives of the images again.")
        return Plan("isic2018", source, target, steps)


def read_diagnoses(root: Path, part: str) -> list[tuple[str, str]]:
    """Names and diagnoses of the images of a part ("Training" or "Validation"); columns are found by name."""
    name = f"{part}_GroundTruth"
    path = _folder(root, name) / f"ISIC2018_Task3_{name}.csv"
    if not path.is_file():
        raise DatasetNotFound(f"no {path}; unpack ISIC2018_Task3_{name}.zip in {root}")
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"image", *DIAGNOSES} <= set(reader.fieldnames or ()):
            raise BadValue(
                f"{path} has the columns {reader.fieldnames}; expected image, {', '.join(DIAGNOSES)}"
            )
        for row in reader:
            diagnoses = [diagnosis for diagnosis in DIAGNOSES if row[diagnosis] in ("1", "1.0")]
            if len(diagnoses) != 1:
                where = f"{path}, line {reader.line_num}"
                raise BadValue(f"{where}: {row['image']} has {len(diagnoses)} diagnoses; expected one")
            rows.append((row["image"], diagnoses[0]))
    return rows


def _folder(root: Path, name: str) -> Path:
    """The folder of an archive, perhaps nested once in itself."""
    folder = root / f"ISIC2018_Task3_{name}"
    if not folder.is_dir():
        raise DatasetNotFound(f"no {folder}; unpack ISIC2018_Task3_{name}.zip in {root}")
    return unnested(folder)
