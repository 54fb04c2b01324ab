"""The loss of every target by its formula, however a step is cut."""

import math
from itertools import pairwise

import formulas
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from hf_ser.training.losses import TargetLoss, concordance, frequencies

NONE = math.nan


def rows(*labels: int | None) -> torch.Tensor:
    """Labels of four emotions; `None` for a clip without one."""
    return torch.tensor([[NONE] * 4 if label is None else np.eye(4)[label].tolist() for label in labels])


class TestEmotions:
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    @pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.1]])
    def test_focal_loss_by_its_formula(self, gamma: float, weights: list[float] | None) -> None:
        logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
        labels = [0, 1, 2, 3, 0, None, 1]
        expected, counted = 0.0, 0
        for row, label in zip(logits.tolist(), labels, strict=True):
            if label is not None:
                p = math.exp(row[label]) / sum(map(math.exp, row))
                expected -= (weights[label] if weights else 1) * (1 - p) ** gamma * math.log(p)
                counted += 1
        loss = TargetLoss(4, class_weights=torch.tensor(weights) if weights else None, focal_gamma=gamma)
        assert loss({"logits": logits}, rows(*labels)).item() == pytest.approx(expected / counted, rel=1e-5)

    @pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
    def test_focal_loss_has_gradients_where_a_clip_is_certain(self, gamma: float) -> None:
        """Trap: at p = 1 the derivative of (1 - p)^0.5 is infinite."""
        logits = torch.tensor([[200.0, 0.0], [0.0, 200.0], [0.0, 1.0]], requires_grad=True)
        targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [NONE, NONE]])
        loss = TargetLoss(2, focal_gamma=gamma)({"logits": logits}, targets)
        loss.backward()
        assert loss.item() == pytest.approx(100)
        torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-0.5, 0.5], [0.0, 0.0]]))

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_weights_and_smoothing_are_those_of_torch(self, smoothing: float) -> None:
        logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 3, 2, 1])
        weights = torch.tensor([0.5, 1.0, 2.0, 0.1])
        found = TargetLoss(4, class_weights=weights, label_smoothing=smoothing)(
            {"logits": logits}, rows(*labels.tolist())
        )
        expected = cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum") / 5
        torch.testing.assert_close(found, expected)

    def test_adjusted_logits_are_learned_for_equally_frequent_emotions(self) -> None:
        """Nine clips of an emotion and one of another that look the same: neither is more likely."""
        labels = [0] * 9 + [1]
        logits = torch.zeros(2, requires_grad=True)
        loss = TargetLoss(2, frequencies=frequencies(labels, 2))
        targets = torch.eye(2)[labels]
        loss({"logits": logits.expand(10, 2)}, targets).backward()
        torch.testing.assert_close(logits.grad, torch.zeros(2), atol=1e-6, rtol=0)

    def test_smoothing_does_not_turn_a_frequent_emotion_into_a_rare_one(self) -> None:
        """Trap: a tenth of a clip's target, shared out alike, is more than a rare emotion is expected to have."""
        shares = torch.tensor([0.9, 0.05, 0.04, 0.01])
        logits = torch.zeros(1, 4, requires_grad=True)
        optimizer = torch.optim.Adam([logits], 0.1)
        for _ in range(500):
            optimizer.zero_grad()
            TargetLoss(4, frequencies=shares, label_smoothing=0.1)({"logits": logits}, rows(0)).backward()
            optimizer.step()
        assert logits.argmax() == 0

    def test_an_emotion_without_clips_is_not_adjusted(self) -> None:
        logits = torch.randn(3, 4)
        found = TargetLoss(4, frequencies=torch.tensor([0.5, 0.25, 0.25, 0]))({"logits": logits}, rows(0, 1, 2))
        expected = cross_entropy(logits + torch.tensor([0.5, 0.25, 0.25, 1]).log(), torch.tensor([0, 1, 2]))
        torch.testing.assert_close(found, expected)

    def test_a_distribution_is_learned_by_its_divergence(self) -> None:
        wanted = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]])
        logits = torch.randn(2, 4)
        expected = torch.nn.functional.kl_div(logits.log_softmax(1), wanted, reduction="batchmean")
        torch.testing.assert_close(TargetLoss(4)({"logits": logits}, wanted), expected)
        assert TargetLoss(4)({"logits": (wanted + 1e-12).log()}, wanted).item() == pytest.approx(0, abs=1e-5)


class TestDimensions:
    @given(seed=st.integers(0, 10_000), clips=st.integers(2, 40), shift=st.floats(-2, 2), scale=st.floats(0.1, 3))
    def test_concordance_is_lins_coefficient(self, seed: int, clips: int, shift: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0, 1, (clips, 2))
        values = scale * truth + shift + rng.normal(0, 0.1, truth.shape)
        found = concordance(torch.from_numpy(values), torch.from_numpy(truth)).numpy()
        np.testing.assert_allclose(
            found, [formulas.concordance(values[:, k], truth[:, k]) for k in range(2)], atol=1e-6
        )

    def test_clips_without_a_label_count_for_nothing(self) -> None:
        values, truth = torch.rand(6, 2), torch.rand(6, 2)
        truth[[1, 4], 0] = NONE
        both = concordance(values, truth)
        assert both[0].item() == pytest.approx(
            formulas.concordance(values[[0, 2, 3, 5], 0].numpy(), truth[[0, 2, 3, 5], 0].numpy()), abs=1e-5
        )

    @pytest.mark.parametrize("truth", [[0.5, 0.5, 0.5], [0.5, NONE, NONE], [NONE, NONE, NONE]])
    @pytest.mark.parametrize("kind", ["ccc", "mse"])
    def test_a_step_without_spread_or_labels_gives_finite_gradients(self, truth: list[float], kind: str) -> None:
        logits = torch.rand(3, 1, requires_grad=True)
        loss = TargetLoss(0, (1.0,), dimension_loss=kind)({"logits": logits}, torch.tensor(truth)[:, None])
        loss.backward()
        assert math.isfinite(loss.item())
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()

    def test_targets_are_weighted_and_each_counts_its_own_clips(self) -> None:
        logits = torch.randn(4, 6)
        targets = torch.cat(
            [rows(0, None, 2, 1), torch.tensor([[0.2, NONE], [0.4, 0.1], [NONE, 0.9], [0.8, 0.3]])], dim=1
        )
        loss = TargetLoss(4, (0.5, 2.0), dimension_loss="mse")
        assert loss.counts(targets).tolist() == [3, 3, 3]
        known = [0, 2, 3]
        expected = cross_entropy(logits[known, :4], torch.tensor([0, 2, 1]))
        for k, weight in enumerate((0.5, 2.0)):
            there = targets[:, 4 + k].isfinite()
            expected = expected + weight * (logits[there, 4 + k] - targets[there, 4 + k]).square().mean()
        torch.testing.assert_close(loss({"logits": logits}, targets), expected)

    @given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 11), max_size=3, unique=True))
    def test_a_cut_step_has_the_gradients_of_a_whole_one(self, seed: int, cuts: list[int]) -> None:
        generator = torch.Generator().manual_seed(seed)
        whole = torch.rand(12, 5, generator=generator)
        targets = torch.cat([rows(*([0, 1, 2] * 4))[:, :3], torch.rand(12, 2, generator=generator)], dim=1)
        targets[::5] = NONE
        loss = TargetLoss(3, (1.0, 0.5))
        expected_logits = whole.clone().requires_grad_()
        expected = loss({"logits": expected_logits}, targets)
        expected.backward()
        value, gradients = loss.concordance_gradients(whole[:, 3:], targets[:, 3:])
        logits, total = whole.clone().requires_grad_(), torch.zeros(())
        for first, last in pairwise([0, *sorted(cuts), 12]):
            part = slice(first, last)
            own = value if first == 0 else torch.zeros(())
            total = total + loss({"logits": logits[part]}, (targets[part], gradients[part], own), loss.counts(targets))
        total.backward()
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(logits.grad, expected_logits.grad)
