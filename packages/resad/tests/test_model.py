import torch

from resad.network.residual import match_distribution


def test_scores_of_an_image_do_not_depend_on_its_batch(make_model, residuals) -> None:
    model = make_model().eval()
    with torch.no_grad():
        together = model(residuals)
        alone = model([maps[[2]] for maps in residuals])
    for all_of_them, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_of_them.normal[[2]], one.normal)
        torch.testing.assert_close(all_of_them.probability[[2]], one.probability)


def test_positions_matter_with_codes_and_not_without(make_model, residuals) -> None:
    flipped = [maps.flip(3) for maps in residuals]
    for architecture, same in (("flow_model", True), ("conditional_flow_model", False)):
        model = make_model(flow_arch=architecture).eval()
        with torch.no_grad():
            plain, turned = model.estimate(residuals), model.estimate(flipped)
        equal = torch.allclose(plain[0].normal, turned[0].normal.flip(2), atol=1e-6)
        assert equal == same


def test_test_time_residuals_move_towards_their_nearest_codes(make_model, residuals) -> None:
    model = make_model()
    with torch.no_grad():
        moved = model.matched(residuals)
        codes = model.vq_ops[0].embedding.weight
        rows = residuals[0].permute(0, 2, 3, 1)
        nearest = codes[torch.cdist(rows.flatten(0, 2), codes).argmin(dim=1)].reshape(rows.shape)
    expected = match_distribution(residuals[0], nearest.permute(0, 3, 1, 2), model.fdm_alpha)
    torch.testing.assert_close(moved[0], expected)


def test_rotations_come_from_the_recipes_seed_alone(make_model) -> None:
    first, again, other = make_model(), make_model(), make_model(seed=1)
    name = "estimators.0.module_list.1.w_perm"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
