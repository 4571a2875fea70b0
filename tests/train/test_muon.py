import pytest
import torch
from torch import nn

from separator.train import muon
from separator.train.muon import STEP_RMS, Muon, orthogonalize


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_orthogonalized_matrices_have_singular_values_near_one(monkeypatch, has_bfloat16):
    monkeypatch.setattr(muon, "computes_bfloat16", lambda device: has_bfloat16)
    torch.manual_seed(0)
    for shape in ((3, 96, 192), (2, 192, 96), (1, 40, 40)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.2 and values.max() < 1.25
    assert orthogonalize(torch.zeros(1, 4, 8)).abs().max() == 0
    assert orthogonalize(torch.randn(1, 4, 8)).dtype == torch.float32


def stepped(optimizer, parameters, steps=5):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for value in parameters:
            value.grad = torch.randn(value.shape, generator=generator)
        optimizer.step()
    return [value.detach() for value in parameters]


def copies(shapes):
    return [nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0))) for shape in shapes]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_vectors_and_filters_take_the_steps_of_adam(scale):
    names, shapes = ["norm.weight", "encoder.weight", "decoder.weight", "prelu.weight"], [(7,), (8, 16), (8, 16), (1,)]
    ours, theirs = copies(shapes), copies(shapes)
    mine = stepped(Muon(zip(names, ours, strict=True), lr=0.01, weight_decay=0.5, adam_scale=scale), ours)
    adam = stepped(torch.optim.Adam(theirs, lr=scale * 0.01), theirs)
    for value, expected in zip(mine, adam, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_matrices_take_the_steps_of_muon_in_torch(decay):
    names, shapes = ["a.weight", "b.weight", "c.weight"], [(16, 8), (16, 8), (4, 12)]
    ours, theirs = copies(shapes), copies(shapes)
    mine = stepped(Muon(zip(names, ours, strict=True), lr=0.01, weight_decay=decay), ours)
    other = torch.optim.Muon(theirs, lr=0.01, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    for value, expected in zip(mine, stepped(other, theirs), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=2e-3)


def test_the_size_of_a_step_does_not_depend_on_the_gradient():
    matrix = nn.Parameter(torch.zeros(64, 128))
    optimizer = Muon([("a.weight", matrix)], lr=0.01)
    for scale in (1e-4, 1.0, 1e4):
        with torch.no_grad():
            matrix.zero_()
        optimizer.state.clear()
        matrix.grad = scale * torch.randn(64, 128)
        optimizer.step()
        rms = float(matrix.detach().square().mean().sqrt())
        assert rms == pytest.approx(0.01 * STEP_RMS, rel=0.35)


def test_the_optimizer_state_can_be_saved_and_restored():
    shapes = [(16, 8), (7,)]
    names = ["a.weight", "b.bias"]
    whole = copies(shapes)
    expected = stepped(Muon(zip(names, whole, strict=True)), whole, steps=4)
    first = copies(shapes)
    optimizer = Muon(zip(names, first, strict=True))
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        if step == 2:
            state = optimizer.state_dict()
            optimizer = Muon(zip(names, first, strict=True))
            optimizer.load_state_dict(state)
        for value in first:
            value.grad = torch.randn(value.shape, generator=generator)
        optimizer.step()
    for value, target in zip(first, expected, strict=True):
        torch.testing.assert_close(value.detach(), target)


def test_a_parameter_that_joins_later_takes_the_steps_of_adam():
    """Its first gradient comes at the third step, when the means of the others are three steps old."""
    names, shapes = ["a.bias", "b.bias"], [(7,), (5,)]
    ours, theirs = copies(shapes), copies(shapes)
    optimizers_of = Muon(zip(names, ours, strict=True), lr=0.01), torch.optim.Adam(theirs, lr=0.01)
    for optimizer, parameters in zip(optimizers_of, (ours, theirs), strict=True):
        stepped(optimizer, parameters[:1], steps=2)
        stepped(optimizer, parameters, steps=3)
    for value, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
