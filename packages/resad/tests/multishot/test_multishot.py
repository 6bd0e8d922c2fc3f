from pathlib import Path

import torch

from resad.metrics import ResADResult
from resad.multishot.multishot import write_analyses, write_epoch, write_shots
from resad.recipes import Recipe

NAN = float("nan")
GOOD = ResADResult(0.9, 0.8, 0.7, 0.95, 0.5, 0.4, -1.0)
BLIND = ResADResult(0.6, 0.5, 0.4, NAN, NAN, NAN, -1.0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_number_of_shots_gets_the_extensions_files(make_model, tmp_path: Path) -> None:
    results = {shots: {"seed 0": {"a": GOOD}, "seed 1": {"a": BLIND}} for shots in (2, 4)}
    write_shots(tmp_path, "mvtec_to_visa", 7, results, make_model())
    for shots in (2, 4):
        stem = f"mvtec_to_visa_{shots}shot"
        endings = (
            "metrics.csv",
            "image_auc.png",
            "image_f1.png",
            "pixel_auc.png",
            "pixel_f1.png",
            "pixel_aupro.png",
        )
        expected = {f"{stem}_epoch7_{ending}" for ending in endings} | {f"{stem}_latest.pth", "draw2"}
        assert names(tmp_path / stem) == expected
        assert names(tmp_path / stem / "draw2") == {f"{stem}_epoch7_metrics.csv"}
    states = [torch.load(path, weights_only=True) for path in sorted(tmp_path.glob("*/*.pth"))]
    assert set(states[0]) == {"vq_ops", "constraintor", "estimators"}
    assert torch.equal(*(state["vq_ops"]["vq1.embedding.weight"] for state in states))


def test_a_single_training_has_all_columns_and_no_chart_of_nothing(tmp_path: Path) -> None:
    write_epoch(tmp_path, "synthetic_to_elpv", 3, {"mono": BLIND})
    header = (tmp_path / "synthetic_to_elpv_epoch3_metrics.csv").read_text().splitlines()[0]
    assert header == "Class Name,Image AUC,Image AP,Image F1,Pixel AUC,Pixel AP,Pixel F1,Pixel AUPRO"
    drawn = {
        name.removeprefix("synthetic_to_elpv_epoch3_") for name in names(tmp_path) if name.endswith("png")
    }
    assert drawn == {"image_auc.png", "image_ap.png", "image_f1.png", "pixel_aupro.png"}


def test_analyses_take_pixels_where_there_is_truth_and_images_where_not(
    make_model, recipe: Recipe, tmp_path: Path
) -> None:
    for folder, result, metric in (("a", GOOD, "Pixel AUC"), ("b", BLIND, "Image AUC")):
        results = {shots: {"seed 0": {"x": result, "y": GOOD}} for shots in recipe.shots}
        write_shots(tmp_path / folder, recipe.setting, 0, results, make_model())
        if metric == "Image AUC":
            blind = {shots: {"seed 0": {"x": BLIND}} for shots in recipe.shots}
            write_shots(tmp_path / folder, recipe.setting, 1, blind, make_model())
        shots, classes = write_analyses(tmp_path / folder, recipe)
        assert shots.name == "shots_vs_auroc.png"
        assert classes.name == "visa_classwise_auroc.png"
        assert metric in classes.with_suffix(".csv").read_text().splitlines()[0]
