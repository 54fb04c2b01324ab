"""The loss of each target, over the clips of a whole step whatever the step is cut into."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

#: How rare emotions count: not at all; by adjusted logits (Menon et al. 2021, arXiv:2007.07314); by the weights of clips; by how
#: often they are sampled.
BALANCES = ("none", "logits", "weights", "sampling")
#: The losses of a dimension.
DIMENSION_LOSSES = ("ccc", "mse")


def frequencies(labels: npt.ArrayLike, emotions: int) -> torch.Tensor:
    """The share of each emotion `(emotions,)`. Labels below 0 do not count."""
    known = np.asarray(labels)[np.asarray(labels) >= 0]
    return torch.tensor(np.bincount(known, minlength=emotions) / max(len(known), 1), dtype=torch.float32)


def inverse_frequencies(labels: npt.ArrayLike, emotions: int) -> torch.Tensor:
    """Weights `(emotions,)` that give every emotion the same share of the loss; over `labels` they average 1."""
    shares = frequencies(labels, emotions)
    return torch.where(shares > 0, 1 / (emotions * shares), 1.0)


@dataclass(frozen=True)
class TargetLoss:
    """
    The weighted sum of the losses of all targets.

    - Of the emotions: the cross-entropy with a clip's target, less the entropy of the target. For a distribution that is the
      Kullback-Leibler divergence, for a single emotion the cross-entropy. With `focal_gamma` a clip counts with
      `(1 - p)^gamma`, p the probability of its emotion (Lin et al. 2017, Focal Loss for Dense Object Detection, equation 5).
    - Of a dimension: `1 - CCC` over the clips of the step (Lin 1989, A concordance correlation coefficient to evaluate
      reproducibility), or the mean squared error.

    Each is over those clips that have the label. Emotions and squared errors are summed and divided by the clips of the whole
    step: the sum over accumulated batches and processes is the mean over the step, whatever it is cut into. CCC is no such sum:
    see [`concordance_gradients`].

    Args:
        emotions (`int`): The number of emotions: the first outputs of the model.
        dimension_weights (`tuple[float, ...]`): The weight of each of the other outputs.
        class_weights (`torch.Tensor` of shape `(emotions,)`, *optional*): On the device of the logits, as `frequencies`. See
            [`inverse_frequencies`]; the divisor stays the number of clips.
        frequencies (`torch.Tensor` of shape `(emotions,)`, *optional*): The share of each emotion in training, whose logarithm
            is added to its logit: a model learns to predict for equally frequent emotions (Menon et al. 2021,
            arXiv:2007.07314, equation 10).
        label_smoothing (`float`, defaults to 0): The share of each clip's target that all emotions get, alike or by their
            `frequencies`.
        focal_gamma (`float`, defaults to 0): See above.
        dimension_loss (`str`, defaults to `"ccc"`): One of [`DIMENSION_LOSSES`].
    """

    emotions: int
    dimension_weights: tuple[float, ...] = ()
    class_weights: torch.Tensor | None = None
    frequencies: torch.Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    dimension_loss: str = "ccc"

    @property
    def couples_clips(self) -> bool:
        """Whether the gradient of a clip depends on the other clips of its step."""
        return bool(self.dimension_weights) and self.dimension_loss == "ccc"

    def counts(self, targets: torch.Tensor) -> torch.Tensor:
        """How many clips of `targets` `(batch, outputs)` have emotions, and each dimension: `(1 + dimensions,)`."""
        there = targets.isfinite()
        emotions = there[:, : min(self.emotions, 1)].sum(0)
        return torch.cat([emotions.sum()[None], there[:, self.emotions :].sum(0)])

    def __call__(
        self,
        outputs: Any,
        targets: torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            outputs: With `logits` `(batch, outputs)`.
            targets (`torch.Tensor` of shape `(batch, outputs)`): The wanted outputs, NaN where a clip has no such label; see
                [`~hf_ser.targets.Targets.rows`]. Where the step has more clips than the batch, with them come the gradients of
                CCC with respect to this batch's outputs `(batch, dimensions)`, and what its loss counts here `()`.
            num_items_in_batch (`torch.Tensor` of shape `(1 + dimensions,)`, *optional*): The clips of the step, see
                [`counts`]; by default those of the batch.
        """
        logits = outputs["logits"].float()
        targets, gradients, value = targets if isinstance(targets, tuple) else (targets, None, 0.0)
        counts = (self.counts(targets) if num_items_in_batch is None else num_items_in_batch).to(logits.device)
        counts = counts.clamp(min=1)  # a step may have nothing but broken clips
        loss = logits.new_zeros(())
        if self.emotions:
            loss = loss + self._emotion_losses(logits, targets).sum() / counts[0]
        values, truth = logits[:, self.emotions :], targets[:, self.emotions :]
        if not self.dimension_weights:
            return loss
        if not self.couples_clips:
            errors = torch.where(truth.isfinite(), values - truth, 0).square().sum(0) / counts[1:]
            return loss + self._weighted(errors)
        if gradients is None:
            return loss + self._weighted(1 - concordance(values, truth))
        product = (gradients * values).sum()
        return loss + product - product.detach() + value

    def _weighted(self, losses: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the losses `(dimensions,)`. A tensor of the weights would be copied to a GPU each time."""
        return torch.stack([weight * loss for weight, loss in zip(self.dimension_weights, losses, strict=True)]).sum()

    def _emotion_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each clip, `(clips,)`, 0 where it has no emotions."""
        # A GPU would be waited for to choose the clips that have some.
        there = targets[:, :1].isfinite()
        wanted = torch.where(there, targets[:, : self.emotions], 1 / self.emotions)
        logits = torch.where(there, logits[:, : self.emotions], 0.0)
        anyone = logits.new_full((self.emotions,), 1 / self.emotions)
        if self.frequencies is not None:
            anyone = self.frequencies
            logits = logits + torch.where(anyone > 0, anyone, 1).log()
        log_probabilities = logits.log_softmax(-1)
        size = wanted.sum(-1, keepdim=True)
        smooth = (1 - self.label_smoothing) * wanted + self.label_smoothing * size * anyone
        if self.class_weights is not None:
            smooth = smooth * self.class_weights
        losses = -(smooth * log_probabilities).sum(-1)
        if not self.label_smoothing and self.class_weights is None:
            losses = losses + torch.special.xlogy(wanted, wanted / size).sum(-1)
        if self.focal_gamma:
            doubt = -torch.expm1((wanted * log_probabilities).sum(-1) / size[:, 0])  # 1 - p
            # Where p is 1 a power below 1 has no gradient.
            losses = losses * doubt.clamp(min=torch.finfo(doubt.dtype).eps) ** self.focal_gamma
        return torch.where(there[:, 0], losses, 0.0)

    def concordance_gradients(self, values: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The gradients of the coupled losses with respect to the outputs of a whole step: with them its batches train one after the
        other as if they were one (Gao et al. 2021, arXiv:2101.06983, section 3).

        Args:
            values (`torch.Tensor` of shape `(clips, dimensions)`): The model's.
            truth (`torch.Tensor` of shape `(clips, dimensions)`): NaN where a clip has none.

        Returns:
            The loss `()`, and the gradients `(clips, dimensions)`.
        """
        values = values.detach().float().requires_grad_()
        with torch.enable_grad():
            loss = self._weighted(1 - concordance(values, truth))
            return loss.detach(), torch.autograd.grad(loss, values)[0]


def concordance(values: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """
    Lin's concordance correlation coefficient of each column, `(columns,)`: twice the covariance, divided by the sum of both
    variances and the squared difference of the means. 0 where fewer than two rows have a truth, or all have the same.

    Args:
        values, truth (`torch.Tensor` of shape `(rows, columns)`): Rows without a truth (NaN) do not count.
    """
    there = truth.isfinite()
    number = there.sum(0).clamp(min=1)
    values, truth = torch.where(there, values, 0), torch.where(there, truth, 0)
    means = values.sum(0) / number, truth.sum(0) / number
    x, y = (torch.where(there, column - mean, 0) for column, mean in zip((values, truth), means, strict=True))
    apart = (x.square() + y.square()).sum(0) / number + (means[0] - means[1]).square()
    return 2 * (x * y).sum(0) / number / apart.clamp(min=1e-8)
