from dataclasses import replace

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import save_trained
from adcommon.testing.alterations import loads_or_is_refused
from uniad.compat.official import save_checkpoint
from uniad.evaluate import facts
from uniad.pictures.checkpoint import METHOD, load_decoder
from uniad.pictures.decoder import VisDecoder
from uniad.published import PAPER


def test_the_authors_decoders_are_found_below_their_folder(tmp_path) -> None:
    decoder = VisDecoder(8)
    state = {f"module.reconstruction.{name}": value for name, value in decoder.state_dict().items()}
    content = {"epoch": 1, "arch": [], "state_dict": state, "best_metric": 0.0, "optimizer": {}}
    file = tmp_path / "bottle" / "checkpoints" / "ckpt.pth.tar"
    file.parent.mkdir(parents=True)
    torch.save(content, file)
    for place in (tmp_path, file):
        loaded, preprocess = load_decoder(place, "bottle")
        assert preprocess.image_size == 224
        assert torch.equal(loaded.conv2.weight, decoder.conv2.weight)


def test_a_model_that_draws_nothing_is_refused(make_model, tiny, tmp_path) -> None:
    save_checkpoint(tmp_path / "ckpt.pth.tar", make_model(), tiny)
    with pytest.raises(WrongCheckpoint, match="is no picture decoder"):
        load_decoder(tmp_path / "ckpt.pth.tar", "bottle")


def test_a_missing_decoder_is_named_with_the_next_command(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match="uniad-train-decoder --category bottle"):
        load_decoder(tmp_path, "bottle")


def test_no_value_of_a_config_is_believed(tiny, tmp_path) -> None:
    save_trained(
        tmp_path / "model",
        VisDecoder(8).state_dict(),
        PAPER,
        replace(facts(tiny, "random"), method=METHOD),
        recipe=replace(tiny, out_stride=16),
        preprocess=Preprocess(image_size=tiny.image_size),
        categories=["bottle"],
    )
    loads_or_is_refused(tmp_path / "model", lambda folder: load_decoder(folder, "bottle"), 8)
