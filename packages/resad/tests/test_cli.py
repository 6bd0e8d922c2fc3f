"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from adcommon.testing.commands import flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import Started, run_together
from adcommon.testing.runs import killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_folder, make_mvtec

SMALL = {
    "--backbone": "resnet18",
    "--weights": "random",
    "--image-size": "32",
    "--feature-levels": "2",
    "--coupling-layers": "2",
    "--pos-embed-dim": "8",
    "--num-embeddings": "6",
    "--batch-size": "4",
    "--flow-batch": "64",
    "--train-ref-shot": "2",
    "--epochs": "2",
    "--first-stage-epochs": "1",
    "--device": "cpu",
}
"""Flags of a training that takes a second."""

small = partial(flags, SMALL)
SEEN, UNSEEN = ("bottle", "cable"), ("candle", "pcb1")


def draw(folder: Path) -> Path:
    make_mvtec(folder / "mvtec", categories=SEEN, size=40)
    make_mvtec(folder / "visa", categories=UNSEEN, size=40, seed=1)
    return folder


def data(folder: Path) -> list[str]:
    return ["--data-root", str(folder), "--train-category", *SEEN, "--category", *UNSEEN]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `resad-multishot` on drawn trees."""
    folder = draw(tmp_path_factory.mktemp("trained"))
    succeed(
        "resad-multishot", *data(folder), "--out", folder / "run", "--maps",
        *small(shots="2"), "--shots", "4", "--reference-seeds", "0", "1", "--eval-freq", "1",
    )  # fmt: skip
    return folder


def test_multishot_leaves_the_extensions_folders_both_plots_and_a_model(trained: Path) -> None:
    run = trained / "run"
    checkpoints = run / "checkpoints"
    for shots in (2, 4):
        stem = f"mvtec_to_visa_{shots}shot"
        written = {path.name for path in (checkpoints / stem).iterdir()}
        assert {f"{stem}_epoch{epoch}_metrics.csv" for epoch in (0, 1)} <= written
        assert {f"{stem}_epoch1_pixel_auc.png", f"{stem}_latest.pth", "draw2"} <= written
    for name in ("shots_vs_auroc", "visa_classwise_auroc"):
        assert (checkpoints / f"{name}.png").exists()
        assert (checkpoints / f"{name}.csv").exists()
    rows = read_rows(run)
    keys = {(row["category"], row["shots"], row["references"], row["protocol"]) for row in rows}
    assert len(keys) == len(rows) == 2 * 2 * 2 * 2
    assert "RANDOM" in (run / "results.md").read_text().upper()
    assert sorted(path.name for path in (run / "all/model").iterdir()) == [
        ".adcommon",
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert len(list((run / "all/maps/pcb1").glob("*/*.jpg"))) == 6


def test_evaluate_repeats_the_numbers_of_the_training(trained: Path) -> None:
    out = trained / "again"
    succeed(
        "resad-evaluate", "--model", trained / "run/all/model", "--data-root", trained, "--out", out,
        "--device", "cpu",
    )  # fmt: skip
    before, after = read_rows(trained / "run"), read_rows(out)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for name in ("category", "shots", "references", "protocol"):
            assert old[name] == new[name]
        for name in ("image_auroc", "pixel_auroc"):
            assert new[name] == pytest.approx(old[name], abs=1e-6)


def test_the_general_command_gives_the_same_rows(trained: Path, tmp_path: Path) -> None:
    words = ("--model", trained / "run/all/model", "--data-root", trained, "--device", "cpu")
    succeed("resad-evaluate", *words, "--out", tmp_path / "a")
    succeed("ad", "evaluate", *words, "--out", tmp_path / "b")
    assert read_rows(tmp_path / "a") == read_rows(tmp_path / "b")


def test_evaluate_reads_the_authors_file_by_the_papers_protocol(trained: Path) -> None:
    file = trained / "run/checkpoints/mvtec_to_visa_2shot/mvtec_to_visa_2shot_latest.pth"
    succeed(
        "resad-evaluate", "--checkpoint", file, "--backbone", "resnet18", "--weights", "random",
        "--dataset", "visa", "--feature-levels", "2", "--image-size", "32",
        "--data-root", trained, "--category", "candle", "--shots", "2",
        "--out", trained / "official", "--device", "cpu",
    )  # fmt: skip
    (row,) = read_rows(trained / "official")
    trained_rows = read_rows(trained / "run")
    (same,) = [
        old
        for old in trained_rows
        if (old["category"], old["shots"], old["references"], old["protocol"])
        == ("candle", 2, "seed 0", "resad")
    ]
    assert row["protocol"] == "resad"
    assert row["image_auroc"] == pytest.approx(same["image_auroc"], abs=1e-6)


def test_predict_compares_with_given_or_recorded_references(trained: Path) -> None:
    images, model = trained / "visa/candle/test", trained / "run/all/model"
    references = trained / "visa/candle/train/good"
    succeed("resad-predict", images, "--model", model, "--references", references, "--out", trained / "p")
    assert len((trained / "p/predictions.csv").read_text().splitlines()) == 7
    succeed("resad-predict", images, "--model", model, "--category", "candle", "--out", trained / "q")
    said = refused("resad-predict", images, "--model", model, "--out", trained / "r")
    assert "--references DIR" in said


def test_train_prints_the_authors_lines_and_reports(tmp_path: Path) -> None:
    folder = draw(tmp_path)
    done = succeed(
        "resad-train", "--setting", "mvtec_to_visa", "--train_dataset_dir", folder / "mvtec",
        "--test_dataset_dir", folder / "visa", "--train-category", *SEEN, "--category", "candle",
        "--num_ref_shot", "3", "--checkpoint_path", folder / "c", "--report", "--out", folder / "run",
        *small(),
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line[:12] for line in lines if line.startswith("Epoch[")] == ["Epoch[0/2]: ", "Epoch[1/2]: "]
    assert (
        sum(line.startswith("Epoch: 1, Class Name: candle, Image AUC | AP | F1_Score: ") for line in lines)
        == 1
    )
    assert sum(line.startswith("(Merged) Average Image AUC | AP | F1_Score: ") for line in lines) == 2
    assert {path.name for path in (folder / "c").glob("*.pth")} == {
        "mvtec_to_visa_checkpoints.pth",
        "mvtec_to_visa_latest.pth",
    }
    assert (folder / "c/mvtec_to_visa_epoch1_metrics.csv").exists()


def test_extracted_features_give_the_same_numbers_as_their_images(tmp_path: Path) -> None:
    folder = draw(tmp_path)
    shutil.copytree(folder / "visa/candle/train", folder / "few/candle/train")
    common = ["--setting", "mvtec_to_visa", "--data-root", folder, "--train-category", *SEEN]
    common += ["--category", "candle", "--shots", "4", *small()]
    succeed(
        "resad-extract", "--few_shot_dir", folder / "few", "--category", "candle", "--save_dir", folder / "f",
        "--backbone", "resnet18", "--image-size", "32", "--weights", "random", "--device", "cpu",
    )  # fmt: skip
    succeed("resad-train", *common, "--test_ref_feature_dir", folder / "f", "--out", folder / "a")
    succeed("resad-train", *common, "--few_shot_dir", folder / "few", "--out", folder / "b")
    values = [[row["image_auroc"] for row in read_rows(folder / name)] for name in ("a", "b")]
    assert values[0] == values[1]


@pytest.mark.slow
def test_own_images_are_tested_on_after_training_on_drawn_products(tmp_path: Path) -> None:
    make_folder(tmp_path / "mine", good=10, defects=("crack",), defective=3, size=40)
    succeed(
        "resad-train", "--data", tmp_path / "mine", "--train-category", "plate", "--out", tmp_path / "run",
        *small(batch_size="16", flow_batch="256", epochs="2"), "--shots", "2",
    )  # fmt: skip
    rows = read_rows(tmp_path / "run")
    assert {(row["category"], row["trained_on"], row["dataset"]) for row in rows} == {
        ("mine", "synthetic", "folder")
    }
    recipe = (tmp_path / "run/recipe.yaml").read_text()
    assert "setting: synthetic_to_folder" in recipe
    assert "residual: subtract" in recipe


@pytest.mark.parametrize("missing", ["both", "test"])
def test_multishot_says_exactly_which_data_is_missing(tmp_path: Path, missing: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    if missing == "test":
        make_mvtec(tmp_path / "data/mvtec", categories=SEEN, size=40)
    arguments = [] if missing == "both" else ["--train-category", *SEEN]
    said = refused("resad-multishot", *arguments)
    assert "VisA not found at data" in said
    assert ("MVTec AD not found at data" in said) == (missing == "both")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--setting", "mvtec"], "TRAIN_to_TEST"),
        (["--setting", "mvtek_to_visa"], "did you mean 'mvtec'"),
        (["--recipe", "imagebind", "--weights", "nowhere.pth"], "no ImageBind weights"),
        (["--backbone", "resnet81"], "resnet"),
        (["--shots", "40"], "use --shots 6, or fewer"),
        (["--epochz", "3"], "--epochs"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path: Path, flags: list[str], message: str) -> None:
    draw(tmp_path)
    changed = flags[0].removeprefix("--").replace("-", "_")
    settings = {"setting": "mvtec_to_visa", "weights": "random"} | {changed: flags[1]}
    if changed == "recipe":
        given = [*flags[2:], "--recipe", "imagebind", "--setting", "mvtec_to_visa"]
    elif changed == "epochz":
        given = [*small(setting="mvtec_to_visa"), *flags]
    else:
        given = small(**settings)
    said = refused("resad-train", *data(tmp_path), "--out", tmp_path / "run", *given)
    assert message in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    words = ["--setting", "mvtec_to_visa", *data(draw(tmp_path)), *small(epochs="4"), "--shots", "2"]
    killed_and_resumed("resad-train", words, tmp_path, "all")


@pytest.mark.slow
def test_bf16_trains_near_the_numbers_of_fp32(tmp_path: Path) -> None:
    folder = draw(tmp_path)
    losses = {}
    for precision in ("fp32", "bf16"):
        done = Started(
            "resad-train", "--setting", "mvtec_to_visa", *data(folder), *small(eval_freq="0"), "--shots", "2",
            "--precision", precision, "--out", folder / precision,
        ).wait()  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"precision {precision}" in done.stderr
        table = read_table(folder / precision / "all/metrics.csv")
        losses[precision] = [float(row["loss"]) for row in table]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    words = ["--setting", "mvtec_to_visa", *data(draw(tmp_path)), *small(), "--shots", "2"]
    for done in run_together("resad-train", *words, "--out", tmp_path / "run"):
        assert done.returncode == 0, done.stderr
    assert {row["category"] for row in read_rows(tmp_path / "run")} == set(UNSEEN)


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path: Path) -> None:
    words = ["--setting", "mvtec_to_visa", *data(draw(tmp_path)), "--shots", "2", "--eval-freq", "0"]
    one_of_two_stopped("resad-train", [*words, *small(epochs="2")], tmp_path, "all")


def test_quickstart_is_small_and_offline() -> None:
    from resad.recipes import QUICKSTART

    assert QUICKSTART.setting == "synthetic_to_elpv"
    assert QUICKSTART.shots == (2, 4, 6, 8)
    assert QUICKSTART.backbone == "tf_efficientnet_lite0.in1k"
