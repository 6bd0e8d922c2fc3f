from dataclasses import replace
from pathlib import Path

import pytest

from resad.evaluate import PaperScores
from resad.metrics import ResADResult
from resad.multishot.reporting import group, lines, report_evaluation, selected
from resad.recipes import Recipe
from resad.scoring import Outcome

NAN = float("nan")


def scores(pixel: float, image: float = 0.8) -> PaperScores:
    logps, bscores, merged = (
        ResADResult(image, 0.7, 0.6, pixel + off, 0.4, 0.3, -1.0) for off in (0, 0.1, 0.2)
    )
    return PaperScores(logps, bscores, merged)


def outcome(category: str, shots: int = 4, draw: str = "seed 0") -> Outcome:
    return Outcome(category, shots, draw, [])


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
    assert selected(group([(outcome("a"), scores(0.5))]), "pixel_auroc") == pytest.approx(0.7)
    assert selected(group([(outcome("a"), scores(NAN))]), "pixel_auroc") == pytest.approx(0.8)


def test_checkpoints_follow_the_best_and_latest_follows_always(
    make_model, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, shots=(4,))
    model = make_model()

    def run(pixel: float, best: float) -> float:
        given = [(outcome("a"), scores(pixel))]
        return report_evaluation(given, 0, best, model, recipe, tmp_path, tables=True, multishot=False)

    best_file, latest = (tmp_path / f"mvtec_to_visa_{end}.pth" for end in ("checkpoints", "latest"))
    assert run(0.5, 0.0) == pytest.approx(0.7)
    assert best_file.exists()
    best_file.unlink()
    latest.unlink()
    assert run(0.4, 0.7) == 0.7
    assert not best_file.exists()
    assert latest.exists()
    assert (tmp_path / "mvtec_to_visa_epoch0_metrics.csv").exists()
    assert "(Merged) Average Image AUC" in capsys.readouterr().out


def test_groups_keep_the_order_of_evaluation() -> None:
    given = [(outcome(name, shots), scores(0.5)) for name in ("b", "a") for shots in (2, 4)]
    groups = group(given)
    assert list(groups) == [2, 4]
    assert list(groups[2]["seed 0"]) == ["b", "a"]
