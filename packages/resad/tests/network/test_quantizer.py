import torch

from resad.network.quantizer import COMMITMENT, Quantisers, VectorQuantiser


def test_every_row_gets_its_nearest_code() -> None:
    torch.manual_seed(0)
    book = VectorQuantiser(7, 3)
    rows = torch.randn(20, 3)
    expected = torch.cdist(rows.double(), book.embedding.weight.double()).argmin(dim=1)
    assert torch.equal(book.nearest(rows), expected)
    assert torch.equal(book(rows), book.embedding.weight[expected])


def test_loss_is_the_error_and_a_quarter_whose_gradient_is_the_quarters() -> None:
    torch.manual_seed(0)
    book = VectorQuantiser(4, 3)
    rows = torch.rand(9, 3)
    loss, used = book.loss(rows)
    error = (book(rows) - rows).square().mean()
    torch.testing.assert_close(loss, (1 + COMMITMENT) * error)
    (gradient,) = torch.autograd.grad(loss, book.embedding.weight)
    (expected,) = torch.autograd.grad(COMMITMENT * error, book.embedding.weight)
    torch.testing.assert_close(gradient, expected)
    assert used == len(book.nearest(rows).unique())


def test_rows_that_are_left_out_change_neither_loss_nor_gradient_nor_codes() -> None:
    torch.manual_seed(0)
    book = VectorQuantiser(9, 3)
    rows, mask = torch.rand(7, 3), torch.arange(7) > 3
    (all_but, used), (chosen, few) = book.loss(rows, mask), book.loss(rows[:4])
    assert used == few
    torch.testing.assert_close(all_but, chosen)
    gradients = [torch.autograd.grad(loss, book.embedding.weight)[0] for loss in (all_but, chosen)]
    torch.testing.assert_close(*gradients)


def test_no_rows_lose_nothing_and_leave_the_codes_alone() -> None:
    book = VectorQuantiser(4, 3)
    loss, _ = book.loss(torch.empty(0, 3))
    loss.backward()
    assert loss == 0
    assert torch.equal(book.loss(torch.ones(2, 3), torch.ones(2, dtype=torch.bool))[0], loss)
    assert not book.embedding.weight.grad.any()


def test_codes_start_within_one_over_their_number() -> None:
    books = Quantisers(10, [3, 4])
    assert [tuple(value.shape) for value in books.state_dict().values()] == [(10, 3), (10, 4)]
    assert books[1].embedding.weight.abs().max() <= 0.1
