from uniad.pictures import cli as picture_cli
from uniad.pictures.cli import DECODER


def test_the_decoder_commands_start_from_the_papers_values() -> None:
    assert (DECODER.batch_size, DECODER.epochs, DECODER.seed) == (32, 1000, 131)
    assert (DECODER.lr, DECODER.lr_step, DECODER.clip_norm) == (1e-4, 800, 0.1)
    assert {"train_decoder", "vis_recon", "vis_query"} <= set(dir(picture_cli))
