from inctrl.results import summary


def row(category: str, seed: int, auroc: float, dataset: str = "visa", shots: int = 2) -> dict:
    return {
        "dataset": dataset, "category": category, "shots": shots, "seed": seed, "references": f"seed {seed}",
        "image_auroc": auroc, "image_ap": None, "pixel_auroc": None, "aupro": None,
    }  # fmt: skip


ROWS = [row("candle", 0, 0.8), row("pcb1", 0, 0.6), row("candle", 1, 0.9), row("pcb1", 1, 0.9)]


def test_a_datasets_value_is_the_mean_over_categories_of_each_draw_then_over_draws() -> None:
    lines = summary(ROWS, paper=False).splitlines()
    # 0.7 and 0.9: mean 0.8, deviation (n - 1) 0.1414
    assert lines[-1] == "| visa | mean | 2 | 2 | 80.00 ± 14.14 |"
    assert "| visa | candle | 2 | 2 | 85.00 ± 7.07 |" in lines


def test_the_papers_numbers_stand_beside_whole_datasets_only() -> None:
    lines = summary(ROWS, paper=True).splitlines()
    assert lines[-1].endswith("| 85.8 ± 2.2 |")
    assert lines[2].endswith("|  |")


def test_one_draw_has_no_deviation() -> None:
    assert "| elpv | mono | 8 | 1 | 81.25 |" in summary([row("mono", 0, 0.8125, "elpv", 8)], paper=False)
