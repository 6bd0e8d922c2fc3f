from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resad.evaluate import Measured, PaperScores
from resad.metrics import ResADResult
from resad.multishot.reporting import (
    Reports,
    group,
    lines,
    selected,
    write_analyses,
    write_epoch,
    write_shots,
)
from resad.recipes import Recipe

NAN = float("nan")
GOOD = ResADResult(0.9, 0.8, 0.7, 0.95, 0.5, 0.4, -1.0)
BLIND = ResADResult(0.6, 0.5, 0.4, NAN, NAN, NAN, -1.0)


def scores(pixel: float, image: float = 0.8) -> PaperScores:
    logps, bscores, merged = (
        ResADResult(image, 0.7, 0.6, pixel + off, 0.4, 0.3, -1.0) for off in (0, 0.1, 0.2)
    )
    return PaperScores(logps, bscores, merged)


def measured(category: str, paper: PaperScores, shots: int = 4) -> Measured:
    return Measured(category, shots, "seed 0", paper)


def same(result: ResADResult) -> PaperScores:
    return PaperScores(result, result, result)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_authors_lines() -> None:
    printed = lines(3, None, {"a": scores(0.5), "b": scores(0.7)})
    assert printed[0] == (
        "Epoch: 3, Class Name: a, Image AUC | AP | F1_Score: 0.8 | 0.7 | 0.6, "
        "Pixel AUC | AP | F1_Score | AUPRO: 0.7 | 0.4 | 0.3 | -1.0"
    )
    assert printed[2] == (
        "(Logps) Average Image AUC | AP | F1_Score: 0.800 | 0.700 | 0.600, "
        "Average Pixel AUC | AP | F1_Score | AUPRO: 0.600 | 0.400 | 0.300 | -1.000"
    )
    assert [line.split(" ")[0] for line in printed[2:]] == ["(Logps)", "(BScores)", "(Merged)"]
    assert lines(3, 8, {"a": scores(0.5)})[1].startswith("8, (Logps) Average")


def test_selection_uses_pixels_or_images_where_there_is_no_truth() -> None:
    assert selected(group([measured("a", scores(0.5))]), "pixel_auroc") == pytest.approx(0.7)
    assert selected(group([measured("a", scores(NAN))]), "pixel_auroc") == pytest.approx(0.8)


def test_checkpoints_follow_the_best_and_latest_follows_always(
    make_model, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, shots=(4,))
    model = make_model()

    reports = Reports(model, recipe, tmp_path, tables=True, multishot=False)

    def run(pixel: float) -> float:
        reports.write([measured("a", scores(pixel))], 0)
        return reports.best

    best_file, latest = (tmp_path / f"mvtec_to_visa_{end}.pth" for end in ("checkpoints", "latest"))
    assert run(0.5) == pytest.approx(0.7)
    assert best_file.exists()
    best_file.unlink()
    latest.unlink()
    assert run(0.4) == pytest.approx(0.7)
    assert not best_file.exists()
    assert latest.exists()
    assert (tmp_path / "mvtec_to_visa_epoch0_metrics.csv").exists()
    assert "(Merged) Average Image AUC" in capsys.readouterr().out


def test_groups_keep_the_order_of_evaluation() -> None:
    given = [measured(name, scores(0.5), shots) for name in ("b", "a") for shots in (2, 4)]
    groups = group(given)
    assert list(groups) == [2, 4]
    assert list(groups[2]["seed 0"]) == ["b", "a"]


def test_each_number_of_shots_gets_the_extensions_files(make_model, tmp_path: Path) -> None:
    draws = {"seed 0": {"a": same(GOOD)}, "seed 1": {"a": same(BLIND)}}
    model = make_model()
    for shots in (2, 4):
        write_shots(tmp_path, "mvtec_to_visa", 7, shots, draws, model)
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
        reports = Reports(make_model(), recipe, tmp_path / folder, tables=False, multishot=True)
        found = {"x": result, "y": GOOD}
        for epoch in range(2 if metric == "Image AUC" else 1):
            if epoch == 1:
                found = {"x": BLIND}
            reports.write(
                [measured(name, same(one), shots) for name, one in found.items() for shots in recipe.shots],
                epoch,
            )
        shots, classes = write_analyses(tmp_path / folder, recipe)
        assert shots.name == "shots_vs_auroc.png"
        assert classes.name == "visa_classwise_auroc.png"
        assert metric in classes.with_suffix(".csv").read_text().splitlines()[0]
