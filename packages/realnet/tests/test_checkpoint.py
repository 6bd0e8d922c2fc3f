import pytest
import torch

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import plain
from adcommon.models.checkpoint import save_model
from adcommon.results.card import model_card
from realnet.checkpoint import load_any
from realnet.detector import make_preprocess


def test_a_model_folder_and_the_authors_file_give_the_same_detector(
    make_model, tiny, images, tmp_path
) -> None:
    model = make_model().eval()
    config = {
        "method": "realnet",
        "category": "bottle",
        "categories": ["bottle"],
        "recipe": plain(tiny),
        "backbone": tiny.backbone,
        "weights": "random",
        "preprocess": plain(make_preprocess(tiny)),
        "threshold": {"value": 0.25, "false_alarm_rate": 0.05, "images": 20, "supported": True},
        "metrics": [],
    }
    card = model_card(config, title="RealNet", paper="", data_notice="", command="")
    save_model(tmp_path / "model", tensors=model.state_dict(), config=config, card=card)
    ours = load_any(tmp_path / "model")
    assert (ours.recipe, ours.categories, ours.weights) == (tiny, ("bottle",), "random")
    assert ours.threshold == 0.25

    ours.save_official(tmp_path / "ckpt_best.pth.tar")
    theirs = load_any(tmp_path / "ckpt_best.pth.tar")
    assert theirs.categories == ()
    assert theirs.threshold is None
    first, second = (trained.detector.score(images) for trained in (ours, theirs))
    assert torch.allclose(first.anomaly_maps, second.anomaly_maps, atol=1e-6)


def test_what_is_neither_says_what_was_expected(tmp_path) -> None:
    with pytest.raises(WrongCheckpoint, match=r"expected a folder with config.json"):
        load_any(tmp_path)
