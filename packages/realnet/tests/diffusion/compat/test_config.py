from pathlib import Path
from typing import Any

import pytest
import yaml

from adcommon.errors import BadValue
from realnet.diffusion.compat.config import read_classifier, read_diffusion, read_sample

PROCESS = {"T": 1000, "beta_scheduler": "linear", "rescale_timesteps": False}
UNET = {
    "classifier_width": 256,
    "learn_sigma": True,
    "classifier_depth": 2,
    "attention_resolutions": [32, 16, 8],
    "dropout": 0.0,
    "channel_mult": [1, 1, 2, 2, 4, 4],
    "class_number": 15,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": 64,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
CLASSIFIER = {
    "classifier_width": 128,
    "classifier_depth": 2,
    "classifier_attention_resolutions": [32, 16, 8],
    "channel_mult": [1, 1, 2, 2, 4, 4],
    "classifier_use_scale_shift_norm": True,
    "classifier_resblock_updown": True,
    "classifier_pool": "attention",
    "class_number": 15,
}


def diffusion() -> dict[str, Any]:
    images = {"meta_file": "data/MVTec-AD/samples/train_uni.json", "hflip": False, "rotate": False}
    return {
        "version": "v1.0.0",
        "random_seed": 100,
        "dataset": {
            "type": "sdas",
            "image_reader": {
                "type": "opencv",
                "kwargs": {"image_dir": "data/MVTec-AD/mvtec/", "color_mode": "RGB"},
            },
            "train": {**images, "vflip": True},
            "test": {**images, "vflip": False},
            "input_size": [256, 256],
            "pixel_mean": [0.485, 0.456, 0.406],
            "pixel_std": [0.229, 0.224, 0.225],
            "batch_size": 5,
            "workers": 2,
        },
        "unet": {**UNET, "pertrain_path": "pretrain/256x256_diffusion.pt"},
        "trainer": {
            "use_fp16": False,
            "max_epoch": 500,
            "val_batch_number": 6,
            "val_freq_epoch": 20,
            "print_freq_step": 30,
            "accumulate": 4,
            "clip_max_norm": 0.5,
            "ema_decay": 0.999,
            "optimizer": {"type": "Adam", "kwargs": {"lr": 2e-4, "betas": [0.8, 0.99], "weight_decay": 0}},
        },
        "criterion": [{"name": "ImageMSELoss", "type": "image_mse", "kwargs": {"weight": 1.0}}],
        "TrainSampler": {**PROCESS, "section_counts": "ddim1000"},
        "TestSampler": {**PROCESS, "section_counts": "ddim25"},
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_value_of_a_diffusion_file_is_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert read_diffusion(written(tmp_path, diffusion())) == {
        "seed": 100,
        "meta_train": Path("data/MVTec-AD/samples/train_uni.json"),
        "image_dir": Path("data/MVTec-AD/mvtec"),
        "hflip": False,
        "vflip": True,
        "rotate": False,
        "image_size": 256,
        "batch_size": 20,
        "chunk_size": 5,
        "workers": 2,
        "width": 256,
        "depth": 2,
        "attention_at": [32, 16, 8],
        "dropout": 0.0,
        "channel_mult": [1, 1, 2, 2, 4, 4],
        "head_width": 64,
        "weights": Path("pretrain/256x256_diffusion.pt"),
        "epochs": 500,
        "validation_batches": 7,
        "evaluate_every": 20,
        "accumulate": 4,
        "clip_norm": 0.5,
        "ema_decay": 0.999,
        "lr": 2e-4,
        "adam_beta1": 0.8,
        "adam_beta2": 0.99,
        "weight_decay": 0,
        "timesteps": 1000,
        "noise_schedule": "linear",
        "rescale_times": False,
        "validation_respacing": "ddim25",
    }


def test_a_classifier_file_is_taken(tmp_path: Path) -> None:
    content = diffusion()
    del content["unet"], content["TestSampler"]
    content["classifier"] = {**CLASSIFIER, "pertrain_path": "pretrain/256x256_classifier.pt"}
    content["trainer"] = {"max_epoch": 1000, "save_freq_epoch": 5, "clip_max_norm": 1.0}
    values = read_classifier(written(tmp_path, content))
    assert values is not None
    wanted = {"width": 128, "attention_at": [32, 16, 8], "evaluate_every": 5, "batch_size": 5, "epochs": 1000}
    assert {name: values[name] for name in wanted} == wanted
    assert values["weights"] == Path("pretrain/256x256_classifier.pt")


def test_a_sampling_file_is_taken(tmp_path: Path) -> None:
    checkpoints = "experiments/MVTec-AD"
    content = {
        "batch_size": 16,
        "channels": 3,
        "H": 256,
        "W": 256,
        "classifier_scale": 2.0,
        "sample_number": 256,
        "unet": {**UNET, "ckpt_path": f"{checkpoints}/diffusion_checkpoints/mvtec_240.pt"},
        "classifier": {**CLASSIFIER, "ckpt_path": f"{checkpoints}/classifier_checkpoints/mvtec_428.pt"},
        "TestSampler": {**PROCESS, "section_counts": "ddim20"},
        "workspace": {"root": "data/MVTec-AD/sdas"},
    }
    assert read_sample(written(tmp_path, content)) == {
        "batch_size": 16,
        "classifier_scale": 2.0,
        "sample_number": 256,
        "respacing": "ddim20",
        "diffusion": Path(f"{checkpoints}/diffusion_checkpoints/mvtec_240.pt"),
        "classifier": Path(f"{checkpoints}/classifier_checkpoints/mvtec_428.pt"),
        "network": "full256",
        "out": Path("data/MVTec-AD/sdas"),
    }
    content["unet"]["channel_mult"] = [1, 2]
    with pytest.raises(BadValue, match="none of full256"):
        read_sample(written(tmp_path, content))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("trainer", {"max_epochs": 3}, r"unknown key trainer.max_epochs \(did you mean max_epoch\?\)"),
        ("unet", {"learn_sigma": False}, "learn_sigma is False; expected True"),
        ("dataset", {"input_size": [256, 128]}, "256x128"),
        ("TestSampler", {"T": 500}, "timesteps is 500"),
        ("TrainSampler", {"section_counts": "ddim100"}, "expected all: ddim1000"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, section: str, change: dict, message: str) -> None:
    content = diffusion()
    content[section] |= change
    with pytest.raises(BadValue, match=message):
        read_diffusion(written(tmp_path, content))


def test_a_file_in_our_form_is_not_theirs_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_diffusion(written(tmp_path, {"lr": 0.1, "channel_mult": [1, 2]})) is None
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(BadValue, match=r"broken\.yaml as YAML"):
        read_sample(tmp_path / "broken.yaml")
