"""Positional convolutions by Fourier transforms are the convolutions that they stand for."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel

from hf_ser.models import load_model, positions
from hf_ser.models.positions import use_fourier_positions, use_stock_positions


def long_conv(kernel: int = 128, groups: int = 4, padding: int = 64, trains: bool = False) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv1d(16, 16, kernel, padding=padding, groups=groups)
    conv = nn.utils.parametrizations.weight_norm(conv, name="weight", dim=2)
    return conv.requires_grad_(trains)


def both(conv: nn.Module, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As it stands, and by Fourier transforms."""
    stock = conv(frames)
    use_fourier_positions(conv)
    return stock, conv(frames)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 700),
    kernel=st.sampled_from([64, 65, 100, 128, 129]),
    groups=st.sampled_from([2, 4, 16]),
)
def test_it_is_the_convolution(batch: int, frames: int, kernel: int, groups: int) -> None:
    torch.manual_seed(frames)
    stock, ours = both(long_conv(kernel, groups, kernel // 2), torch.randn(batch, 16, frames))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)


def test_its_gradients_are_the_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "LEAST_FRAMES", 0)
    found = []
    for fourier in (False, True):
        conv = long_conv(trains=True).double()
        torch.manual_seed(1)
        frames = torch.randn(2, 16, 300, dtype=torch.float64, requires_grad=True)
        if fourier:
            use_fourier_positions(conv)
        conv(frames).square().sum().backward()
        found.append([frames.grad, *(p.grad for p in conv.parameters())])
    for stock, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock)


def test_frozen_weights_are_transformed_once_and_new_ones_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    spectra_of = positions.spectra_of
    monkeypatch.setattr(positions, "spectra_of", lambda *given: made.append(1) or spectra_of(*given))
    conv, frames = long_conv(), torch.randn(1, 16, 50, requires_grad=True)
    use_fourier_positions(conv)
    with torch.inference_mode():
        first = conv(frames.detach()).clone()
    again = conv(frames)  # what was kept in inference mode serves training, too
    again.sum().backward()
    torch.testing.assert_close(again, first)
    assert len(made) == 1
    with torch.no_grad():
        conv.parametrizations.weight.original1.add_(1)
    changed = conv(frames)
    assert len(made) == 2
    use_stock_positions(conv)
    torch.testing.assert_close(changed, conv(frames), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(changed, first)


def test_weights_that_train_are_never_those_of_an_earlier_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "LEAST_FRAMES", 0)
    conv, frames = long_conv(trains=True), torch.randn(1, 16, 50)
    use_fourier_positions(conv)
    with torch.no_grad():
        conv(frames)
        conv.parametrizations.weight.original1.data.add_(1)  # leaves no trace
        found = conv(frames)
        use_stock_positions(conv)
        torch.testing.assert_close(found, conv(frames), atol=1e-5, rtol=1e-5)


def test_short_batches_of_weights_that_train_stay_convolutions() -> None:
    conv = long_conv(trains=True)
    use_fourier_positions(conv)
    few, many = torch.randn(1, 16, 100), torch.randn(4, 16, 100)
    assert "Convolution" in str(conv(few).grad_fn.next_functions) + conv(few).grad_fn.name()
    assert "Convolution" not in str(conv(many).grad_fn.next_functions) + conv(many).grad_fn.name()


def test_under_autocast_it_is_computed_in_float32() -> None:
    conv, frames = long_conv(), torch.randn(2, 16, 200)
    stock = conv(frames)
    use_fourier_positions(conv)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(conv(frames), stock, atol=1e-5, rtol=1e-5)
    assert conv(frames.bfloat16()).dtype == torch.bfloat16


def test_other_convolutions_stay_as_they_are() -> None:
    others = [
        nn.Conv1d(16, 16, 128, padding=64),
        nn.Conv1d(16, 16, 19, padding=9, groups=4),
        nn.Conv1d(16, 16, 128, padding=64, groups=4, stride=2),
        nn.Conv1d(16, 16, 128, padding="same", groups=4),
    ]
    use_fourier_positions(nn.ModuleList(others))
    assert not any("forward" in conv.__dict__ for conv in others)


def test_a_copy_is_a_copy() -> None:
    conv, frames = long_conv(), torch.randn(1, 16, 50)
    use_fourier_positions(conv)
    before = conv(frames)
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        conv.bias.add_(1)
    torch.testing.assert_close(twin(frames), before)
    assert twin.forward.__self__ is twin


def test_the_output_of_a_real_encoder_does_not_change(shared: Path) -> None:
    folder = shared / "models/hubert-mini"
    values = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(0))
    stock = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(str(folder), ("angry", "happy")).model.base_model.eval()
    convs = [conv for conv in ours.modules() if isinstance(conv, nn.Conv1d) and "forward" in conv.__dict__]
    assert len(convs) == 1
    with torch.no_grad():
        expected = stock(values[:1]).last_hidden_state
        torch.testing.assert_close(ours(values[:1]).last_hidden_state, expected, atol=1e-4, rtol=1e-4)
