import pytest
import torch

from adcommon.errors import WrongCheckpoint
from uniad.compat.official import save_checkpoint
from uniad.pictures.checkpoint import load_decoder
from uniad.pictures.decoder import VisDecoder


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
