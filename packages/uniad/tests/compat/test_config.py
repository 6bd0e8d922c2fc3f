import logging
from dataclasses import replace

import pytest

from adcommon.errors import BadValue
from uniad.compat.config import read_config
from uniad.recipes import CIFAR10, MVTEC, Recipe

MVTEC_FILE = """
version: v1.0.0
random_seed: 133
port: 11111
dataset:
  type: custom
  image_reader:
    type: opencv
    kwargs: {image_dir: ../../data/images, color_mode: RGB}
  train: {meta_file: ../../data/train.json, rebalance: False, hflip: False, vflip: False, rotate: False}
  test: {meta_file: ../../data/test.json}
  input_size: [224, 224]
  pixel_mean: [0.485, 0.456, 0.406]
  pixel_std: [0.229, 0.224, 0.225]
  batch_size: 8
  workers: 4
criterion:
  - {name: FeatureMSELoss, type: FeatureMSELoss, kwargs: {weight: 1.0}}
trainer:
  max_epoch: 1000
  clip_max_norm: 0.1
  val_freq_epoch: 10
  print_freq_step: 1
  tb_freq_step: 1
  lr_scheduler: {type: StepLR, kwargs: {step_size: 800, gamma: 0.1}}
  optimizer: {type: AdamW, kwargs: {lr: 0.0001, betas: [0.9, 0.999], weight_decay: 0.0001}}
saver: {auto_resume: False, always_save: False, load_path: checkpoints/ckpt.pth.tar, save_dir: c, log_dir: l}
evaluator:
  save_dir: result_eval_temp
  key_metric: mean_pixel_auc
  metrics:
    auc:
      - {name: std}
      - {name: max, kwargs: {avgpool_size: [16, 16]}}
      - {name: pixel}
  vis_compound: {save_dir: vis_compound, max_score: null, min_score: null}
frozen_layers: [backbone]
net:
  - name: backbone
    type: models.backbones.efficientnet_b4
    frozen: True
    kwargs: {pretrained: True, outlayers: [1, 2, 3, 4]}
  - {name: neck, prev: backbone, type: models.necks.MFCN, kwargs: {outstrides: [16]}}
  - name: reconstruction
    prev: neck
    type: models.reconstructions.UniAD
    kwargs:
      pos_embed_type: learned
      hidden_dim: 256
      nhead: 8
      num_encoder_layers: 4
      num_decoder_layers: 4
      dim_feedforward: 1024
      dropout: 0.1
      activation: relu
      normalize_before: False
      feature_jitter: {scale: 20.0, prob: 1.0}
      neighbor_mask: {neighbor_size: [7, 7], mask: [True, True, True]}
      save_recon: {save_dir: result_recon}
      initializer: {method: xavier_uniform}
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str):
        path = tmp_path / "experiments" / "MVTec-AD" / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return read_config(path)

    return read


def test_the_papers_file_is_the_papers_recipe(read, tmp_path) -> None:
    values = read(MVTEC_FILE)
    assert values.pop("workers") == 4
    data = tmp_path / "data"
    assert replace(MVTEC, **values) == replace(
        MVTEC,
        dataset="folder",
        image_dir=data / "images",
        meta_train=data / "train.json",
        meta_test=data / "test.json",
    )


def test_a_cifar_file_is_the_papers_recipe_for_its_classes(read, tmp_path) -> None:
    text = MVTEC_FILE.replace("type: custom", "type: cifar10\n  normals: [5, 6, 7, 8, 9]")
    text = text.replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]").replace("batch_size: 8", "batch_size: 16")
    text = text.replace("random_seed: 133", "random_seed: 131").replace("mean_pixel_auc", "mean_mean_auc")
    lines = [
        line.replace("train: {meta_file: ../../data/train.json, ", "train: {root_dir: ../../data, ")
        for line in text.splitlines()
        if "image" not in line or "input" in line
    ]
    text = "\n".join(line for line in lines if "type: opencv" not in line and "  test:" not in line)
    text = text.replace("    kwargs: {image_dir: ../../data/images, color_mode: RGB}\n", "")
    values = read(text)
    assert values.pop("data_root") == tmp_path / "data"
    assert values.pop("normals") == ["56789"]
    values.pop("workers")
    assert replace(CIFAR10, **values) == CIFAR10


def test_every_value_reaches_its_field(read) -> None:
    changes = {
        "hflip: False": "hflip: True",
        "max_epoch: 1000": "max_epoch: 7",
        "clip_max_norm: 0.1": "clip_max_norm: 0.5",
        "step_size: 800, gamma: 0.1": "step_size: 3, gamma: 0.5",
        "type: AdamW": "type: Adam",
        "betas: [0.9, 0.999]": "betas: [0.8, 0.99]",
        "weight: 1.0": "weight: 2.0",
        "avgpool_size: [16, 16]": "avgpool_size: [8, 12]",
        "dropout: 0.1": "dropout: 0.0",
        "input_size: [224, 224]": "input_size: [256, 256]",
    }
    text = MVTEC_FILE
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    values = read(text)
    expected = {
        "hflip": True,
        "epochs": 7,
        "clip_norm": 0.5,
        "lr_step": 3,
        "lr_gamma": 0.5,
        "optimiser": "adam",
        "adam_beta1": 0.8,
        "adam_beta2": 0.99,
        "loss_weight": 2.0,
        "pool": (8, 12),
        "dropout": 0.0,
        "image_size": 256,
    }
    assert {name: values[name] for name in expected} == expected
    assert values.keys() - {"workers"} <= Recipe.__dataclass_fields__.keys()


def test_keys_without_effect_are_named_with_their_reason(read, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        read(MVTEC_FILE)
    assert "saver.load_path (no training starts from it unasked" in caplog.text
    assert "tb_freq_step" in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("max_epoch", "max_epochs", "unknown key trainer.max_epochs .did you mean trainer.max_epoch"),
        ("[224, 224]", "[224, 256]", "square"),
        ("type: StepLR", "type: CosineLR", "expected StepLR"),
        ("type: AdamW", "type: Lion", "Lion; expected AdamW, Adam or SGD"),
        ("frozen_layers: [backbone]", "frozen_layers: []", "expected .backbone."),
        ("pixel_mean: [0.485", "pixel_mean: [0.5", "pixel_mean"),
        ("type: custom", "type: imagenet", "expected custom or cifar10"),
        ("type: FeatureMSELoss", "type: ImageMSELoss", "uniad-train-decoder"),
        ("dataset:", "dataset: [", "as YAML"),
    ],
)
def test_what_cannot_be_used_is_named(read, before: str, after: str, message: str) -> None:
    assert before in MVTEC_FILE
    with pytest.raises(BadValue, match=message):
        read(MVTEC_FILE.replace(before, after))


def test_files_in_our_own_form_are_left_to_their_reader(read) -> None:
    assert read("epochs: 3\n") is None
