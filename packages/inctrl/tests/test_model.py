import torch
import torch.nn.functional as F

from inctrl.model import SHARPNESS, InCTRL, OrderedHead, trainable


def outputs(model: InCTRL, rows: int = 4, text: bool = True):
    generator = torch.Generator().manual_seed(1)
    return model(
        torch.randn(rows, 8, generator=generator),
        torch.randn(1, 2, 8, generator=generator),
        torch.rand(rows, 9, generator=generator),
        torch.rand(rows, generator=generator) if text else None,
    )


def test_the_papers_size_has_334916_parameters() -> None:
    assert sum(parameter.numel() for parameter in InCTRL(640, 225).parameters()) == 334_916


def test_the_image_score_is_the_mean_of_holistic_score_and_peak() -> None:
    out = outputs(InCTRL(8, 9).eval())
    torch.testing.assert_close(out.final, (out.holistic + out.peak) / 2)
    assert ((out.image > 0) & (out.image < 1)).all()


def test_without_text_nothing_is_added_for_it() -> None:
    model = InCTRL(8, 9).eval()
    with_text, without = outputs(model), outputs(model, text=False)
    assert torch.equal(with_text.image, without.image)
    assert torch.equal(with_text.peak, without.peak)
    assert not torch.equal(with_text.holistic, without.holistic)


def test_a_relative_models_score_depends_on_residuals_and_not_on_their_places() -> None:
    torch.manual_seed(0)
    model = InCTRL(8, 9, relative=True).eval()
    tokens, references, maps = torch.randn(4, 8), torch.randn(1, 2, 8), torch.rand(4, 9)
    out = model(tokens, references, maps, torch.rand(4))
    moved = model(torch.randn(4, 8), references, maps[:, torch.randperm(9)], None)
    torch.testing.assert_close(out.final, moved.final)
    assert not torch.equal(out.image, moved.image)
    assert not torch.equal(out.final, model(tokens, references, maps * 0.5, None).final)


def test_an_ordered_head_never_falls_with_a_residual_and_learns_which_ranks_count() -> None:
    torch.manual_seed(0)
    head, maps = OrderedHead(9), torch.rand(64, 9)
    torch.testing.assert_close(head(maps), torch.sigmoid(F.softplus(head.gain) * (maps.mean(dim=1) - 0.5)))
    labels = (maps.amax(dim=1) > maps.amax(dim=1).median()).float()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(100):
        optimiser.zero_grad()
        F.binary_cross_entropy(head(maps), labels).backward()
        optimiser.step()
    assert (SHARPNESS * head.ranks).softmax(dim=0).argmax() == 8
    assert (head(maps + 0.1 * torch.rand(64, 9)) > head(maps)).all()


def test_all_that_learns_gets_a_gradient_and_the_unused_norm_does_not() -> None:
    model = InCTRL(8, 9).train()
    out = outputs(model)
    (out.final.sum() + out.image.sum()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {
        f"{head}.bn1.{entry}" for head in ("diff_head", "diff_head_ref") for entry in ("weight", "bias")
    }
    assert len(trainable(model)) == len(list(model.parameters())) - len(without)


def test_in_evaluation_mode_a_query_does_not_depend_on_its_neighbours() -> None:
    model = InCTRL(8, 9).eval()
    tokens, references = torch.randn(4, 8), torch.randn(1, 2, 8)
    maps, text = torch.rand(4, 9), torch.rand(4)
    together = model(tokens, references, maps, text).final
    alone = torch.cat(
        [model(tokens[i : i + 1], references, maps[i : i + 1], text[i : i + 1]).final for i in range(4)]
    )
    torch.testing.assert_close(together, alone)
