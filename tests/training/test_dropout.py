"""The fast dropout drops as PyTorch's own does."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hf_ser.training.dropout import WordDropout, use_word_dropout


@given(
    st.floats(0.0, 1.0),
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_an_element_is_zero_or_scaled(p: float, shape: list[int], dtype: torch.dtype) -> None:
    values = torch.rand(shape).to(dtype) + 1
    dropped = WordDropout(p)(values)
    assert dropped.shape == values.shape
    assert dropped.dtype == dtype
    kept = dropped != 0
    if p < 1:
        torch.testing.assert_close(dropped[kept], values[kept] / (1 - p), rtol=2e-2, atol=0)
    if p in (0.0, 1.0):
        assert kept.all() if p == 0 else not kept.any()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_it_drops_the_given_share(p: float) -> None:
    torch.manual_seed(0)
    dropped = WordDropout(p)(torch.ones(1000, 1001)) == 0
    # Five standard deviations of a fair draw; of each place within a word, and of neighbours that fall together.
    for one in (dropped, *(dropped.flatten()[place::4] for place in range(4))):
        assert abs(one.double().mean() - p) < 5 * (p * (1 - p) / one.numel()) ** 0.5
    both = (dropped[:, 1:] & dropped[:, :-1]).double().mean()
    assert abs(both - p * p) < 5 * (p * p * (1 - p * p) / dropped.numel()) ** 0.5 + 1e-4


def test_a_share_next_to_one_is_not_taken_for_none() -> None:
    assert (WordDropout(1 - 2**-20)(torch.ones(1000)) == 0).sum() > 900


def test_a_seed_gives_the_same_mask_and_the_next_call_another() -> None:
    dropout, values = WordDropout(0.5), torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(1)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)


def test_the_gradient_is_that_of_what_was_kept() -> None:
    values = torch.rand(3, 5, requires_grad=True)
    dropped = WordDropout(0.4)(values)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, (dropped != 0) / 0.6)


def test_takes_the_place_of_pytorchs_own_and_changes_nothing_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.1), nn.Dropout1d(0.2)))
    other = copy.deepcopy(model)
    use_word_dropout(model)
    assert [type(module) for module in model.modules()].count(WordDropout) == 2
    assert model.state_dict().keys() == other.state_dict().keys()
    values = torch.rand(2, 4)
    assert torch.equal(model.eval()(values), other.eval()(values))
