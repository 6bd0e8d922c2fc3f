import logging
from pathlib import Path

import pytest
import yaml

from adcommon.errors import BadValue
from realnet.compat.config import read_config
from realnet.recipes import MVTEC


def authors() -> dict:
    """A realnet.yaml with every value that the authors' has."""
    return {
        "random_seed": 100,
        "dataset": {
            "type": "mvtec",
            "image_reader": {"kwargs": {"image_dir": "data/MVTec-AD/mvtec/", "color_mode": "RGB"}},
            "train": {
                "meta_file": "data/MVTec-AD/samples/train_{}.json",
                "hflip": False,
                "vflip": False,
                "rotate": False,
                "dtd_dir": "data/DTD/images",
                "sdas_dir": "data/MVTec-AD/sdas/{}",
                "dtd_transparency_range": [0.2, 1.0],
                "sdas_transparency_range": [0.5, 1.0],
                "perlin_scale": 6,
                "min_perlin_scale": 0,
                "anomaly_types": {"normal": 0.5, "sdas": 0.5},
            },
            "test": {"meta_file": "data/MVTec-AD/samples/test_{}.json"},
            "input_size": [256, 256],
            "pixel_mean": [0.485, 0.456, 0.406],
            "pixel_std": [0.229, 0.224, 0.225],
            "batch_size": 16,
            "workers": 4,
        },
        "criterion": [
            {"name": "SegmentCrossEntropyLoss", "kwargs": {"weight": 1.0}},
            {"name": "FeatureMSELoss", "kwargs": {"weight": 1.0}},
        ],
        "trainer": {
            "max_epoch": 1000,
            "val_freq_epoch": 5,
            "print_freq_step": 20,
            "optimizer": {"type": "Adam", "kwargs": {"lr": 0.0001, "betas": [0.9, 0.999]}},
        },
        "evaluator": {
            "key_metric": "mean",
            "metrics": [{"name": "image", "kwargs": {"avgpool_size": [16, 16]}}, {"name": "pixel"}],
        },
        "structure": [
            {
                "name": f"block{number}",
                "stride": 2 ** (number + 1),
                "layers": [{"idx": f"layer{number}", "planes": planes}],
            }
            for number, planes in enumerate((256, 512, 512, 256), start=1)
        ],
        "net": [
            {"name": "backbone", "frozen": True, "kwargs": {"model": "wide_resnet50_2"}},
            {"name": "afs", "frozen": True, "kwargs": {"init_bsn": 64}},
            {
                "name": "recon",
                "kwargs": {
                    "num_res_blocks": 2,
                    "hide_channels_ratio": 0.5,
                    "channel_mult": [1, 2, 4],
                    "attention_mult": [2, 4],
                },
            },
            {
                "name": "rrs",
                "kwargs": {
                    "modes": ["max", "mean"],
                    "mode_numbers": [256, 256],
                    "num_residual_layers": 2,
                    "stop_grad": False,
                },
            },
        ],
    }


def read(tmp_path: Path, content: object) -> dict | None:
    (tmp_path / "realnet.yaml").write_text(yaml.safe_dump(content))
    return read_config(tmp_path / "realnet.yaml")


def test_the_authors_file_is_the_papers_recipe(tmp_path: Path) -> None:
    values = read(tmp_path, authors())
    places = {name: values.pop(name) for name in ("data_root", "sdas_dir", "dtd_dir", "workers")}
    assert values == {name: getattr(MVTEC, name) for name in values}
    assert {"structure", "epochs", "lr", "anomaly_source", "rrs_modes", "pool", "seed"} <= values.keys()
    assert places == {
        "data_root": Path("data/MVTec-AD/mvtec"),
        "sdas_dir": Path("data/MVTec-AD/sdas/{}"),
        "dtd_dir": Path("data/DTD"),
        "workers": 4,
    }


def test_each_value_arrives(tmp_path: Path) -> None:
    content = authors()
    content["random_seed"] = 7
    content["dataset"] |= {"type": "visa", "input_size": [512, 512], "batch_size": 3}
    content["dataset"]["train"]["anomaly_types"] = {"normal": 0.5, "dtd": 0.1, "sdas": 0.4}
    content["trainer"] |= {"max_epoch": 9, "val_freq_epoch": 2}
    content["trainer"]["optimizer"]["kwargs"] = {"lr": 0.01, "betas": [0.5, 0.9], "weight_decay": 0.1}
    content["net"][0]["kwargs"]["model"] = "resnet34"
    content["criterion"] = [
        {"name": "SegmentFocalLoss", "kwargs": {"weight": 2.0, "alpha": 0.25, "gamma": 3}},
        {"name": "FeatureMSELoss", "kwargs": {"weight": 0.5}},
    ]
    content["evaluator"]["metrics"][0]["kwargs"]["avgpool_size"] = [8, 12]
    values = read(tmp_path, content)
    expected = {
        "seed": 7,
        "dataset": "visa",
        "image_size": 512,
        "batch_size": 3,
        "anomaly_source": "both",
        "normal_share": 0.5,
        "sdas_share": pytest.approx(0.8),
        "epochs": 9,
        "evaluate_every": 2,
        "lr": 0.01,
        "adam_beta1": 0.5,
        "adam_beta2": 0.9,
        "weight_decay": 0.1,
        "backbone": "resnet34.bt_in1k",
        "segmentation_loss": "focal",
        "segmentation_weight": 2.0,
        "focal_alpha": 0.25,
        "focal_gamma": 3.0,
        "feature_weight": 0.5,
        "pool": (8, 12),
    }
    assert {name: values[name] for name in expected} == expected


def test_the_class_that_alpha_weighs_may_be_the_other_one(tmp_path: Path) -> None:
    content = authors()
    content["criterion"][0] = {"name": "SegmentFocalLoss", "kwargs": {"alpha": 0.25, "balance_index": 1}}
    assert read(tmp_path, content)["focal_alpha"] == 0.75


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dataset", {"input_size": value}) for value in (7, [], "x", None)),
        *(("criterion", value) for value in (7, "x", [3], {"a": 1})),
        *(("net", value) for value in (7, "x", [[1]])),
        ("trainer", {"optimizer": {"kwargs": {"betas": 3}}}),
    ],
)
def test_another_form_is_one_error_that_names_the_file(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(BadValue, match=r"realnet\.yaml"):
        read(tmp_path, authors() | {key: value})


def test_lists_of_one_category_are_read_instead_of_folders(tmp_path: Path) -> None:
    content = authors()
    content["dataset"]["train"]["meta_file"] = "train_bottle.json"
    content["dataset"]["test"]["meta_file"] = "test_bottle.json"
    values = read(tmp_path, content)
    assert values["meta_train"] == Path("train_bottle.json")
    assert values["meta_test"] == Path("test_bottle.json")
    assert values["image_dir"] == Path("data/MVTec-AD/mvtec")
    assert "data_root" not in values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["trainer"].update(max_epochs=3), r"unknown key max_epochs \(did you mean max_epoch\?\)"),
        (lambda c: c["dataset"].update(input_size=[256, 128]), "only square images"),
        (lambda c: c["dataset"].update(type="sdas"), "dataset.type is sdas; expected one of mvtec, mpdd"),
        (lambda c: c["dataset"].update(pixel_mean=[0, 0, 0]), "the backbone's weights expect"),
        (lambda c: c["dataset"]["train"].update(hflip=True), "hflip is on"),
        (lambda c: c["dataset"]["train"].update(anomaly_types={"normal": 1.0}), "not all normal"),
        (
            lambda c: c["dataset"]["train"].update(anomaly_types={"normal": 0.5, "fog": 0.5}),
            "expected shares",
        ),
        (lambda c: c["dataset"]["train"].update(anomaly_types={"normal": 0.5, "dtd": 0.4}), "of sum 1"),
        (lambda c: c["trainer"]["optimizer"].update(type="SGD"), "the optimiser is SGD; expected Adam"),
        (lambda c: c["criterion"].append({"name": "Other"}), "the loss is Other"),
        (lambda c: c["net"][0].update(frozen=False), "frozen of backbone is False; expected True"),
        (lambda c: c["net"][2].update(frozen=True), "frozen of recon is True; expected False"),
        (lambda c: c.update(structure=["layer1"]), "cannot read the block"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change, message: str) -> None:
    content = authors()
    change(content)
    with pytest.raises(BadValue, match=message):
        read(tmp_path, content)


def test_what_has_no_effect_is_said(tmp_path: Path, caplog) -> None:
    content = authors() | {"nothing_of_ours": 1}
    with caplog.at_level(logging.WARNING):
        read(tmp_path, content)
    assert "print_freq_step (metrics.csv has every step)" in caplog.text
    assert "nothing_of_ours (it is not one of RealNet's)" in caplog.text
    assert "key_metric (" in caplog.text


def test_a_file_of_ours_is_left_to_the_command(tmp_path: Path) -> None:
    assert read(tmp_path, {"structure": ["layer1:64@4"], "anomaly_source": "dtd", "lr": 0.1}) is None
    assert read(tmp_path, {"lr": 0.1}) is None
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(BadValue, match=r"cannot read .*broken\.yaml as YAML"):
        read_config(tmp_path / "broken.yaml")
