"""
The probe: a logistic regression on statistics of a frozen encoder, solved and not trained step by step.

A `linear` head starts from it. Every run reports its metrics on the same clips: the difference is the gain of fine-tuning.
"""

import copy
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import brentq
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from hf_ser.modeling import StandardisedLinear
from hf_ser.targets import Rows
from hf_ser.training.base import BaseTrainer
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.frozen import FrozenFeatures, cached_predictions
from hf_ser.training.frozen.parts import compute, frozen_part

logger = logging.getLogger(__name__)

Features = npt.NDArray[np.float32]

#: The values of `C` of scikit-learn's logistic regression, the inverse of the L2 penalty, from the strongest penalty on.
C_VALUES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: The penalties of the ridge regression on standardised features.
PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)
#: The number of folds of the cross-validation over training speakers that chooses `C` and the penalties.
FOLDS = 5
#: How much of the covariance within emotions is replaced by a multiple of the identity before features are whitened. 0.2 to
#: 0.5 are alike; docs/methods.md has what whitening is worth.
SHRINKAGE = 0.3
#: Where the encoder trains, too, the head starts with the logits of the probe times one number, which leaves this share of the
#: log loss of chance on the training clips: a probe that separates them with nearly no loss leaves no gradient to fine-tune with.
START_LOSS = 0.4
#: A probe is solved on no more clips, and on no more numbers (1 GB), but on so many clips at least: more cost time and memory,
#: and change it little.
MOST_CLIPS, MOST_NUMBERS, LEAST_CLIPS = 10_000, 250_000_000, 1000
#: The logarithm of the weight of the input of the first layer in the average of the layers, relative to the others.
FIRST_LAYER = -10.0


@dataclass(frozen=True)
class Clips:
    """
    What a probe is solved on.

    Args:
        features (`array` of shape `(clips, layers, features)`): Statistics of each layer.
        labels (`array` of shape `(clips, outputs)`): The wanted outputs, see [`~hf_ser.targets.Targets.rows`].
        speakers (`Sequence[str]`): Who speaks, or for an unknown speaker the clip.
        views (`int`, defaults to 1): How many times each clip is among them, differently augmented.
    """

    features: Features
    labels: Rows
    speakers: Sequence[str]
    views: int = 1


@dataclass(frozen=True)
class Solution:
    """
    A solved probe.

    Args:
        c (`float`, *optional*): `C` of the logistic regression of emotions.
        penalties (`list[float]`, *optional*): The ridge penalty of each dimension.
        start (`dict[str, torch.Tensor]`): `weight` and `bias` of the projection that a head starts from if its encoder trains,
            too, see [`START_LOSS`].
    """

    c: float | None
    penalties: list[float] | None
    start: dict[str, torch.Tensor]


def solve(model: Any, clips: Clips, *, emotions: int, balance: str = "none") -> Solution:
    """
    Solves the probe and starts the `linear` head of a model from it, in place.

    With a stock model the layers from the first on are averaged, each divided by one number, its standard deviation; with the
    package's own class they stand side by side. Each feature is standardised. Emotions are solved by logistic regression on
    whitened features ([`whitening`]), dimensions by ridge regression; the L2 penalty is chosen by a cross-validation that leaves
    training speakers out.

    Args:
        model (`PreTrainedModel`): With a `linear` head.
        clips (`Clips`): Of the training part alone.
        emotions (`int`): How many of the outputs, the first ones, are emotions; the others are dimensions.
        balance (`str`, defaults to `"none"`): How rare emotions count, one of [`~hf_ser.training.losses.BALANCES`]. Where
            they are sampled in training, they are weighed here.
    """
    head = model.projector
    assert isinstance(head, StandardisedLinear)
    features = clips.features
    if model.config.use_weighted_layer_sum:
        with torch.no_grad():
            start_layer_weights(model.layer_weights, features)
            weights = model.layer_weights.softmax(0).cpu().numpy()
        features = np.einsum("clf,l->cf", features, weights)
    else:
        features = features.reshape(len(features), -1)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-6 * np.abs(mean) + 1e-12] = 1.0  # a constant says nothing
    features = (features - mean) / scale
    features, back = rotated(features)
    c = penalties = None
    parts: list[tuple[Features, ...]] = []  # weight and bias of the probe, and those that training starts from
    if emotions:
        c, *solution = classify(features, clips.labels[:, :emotions], clips.speakers, clips.views, balance)
        parts.append(tuple(solution))
    if clips.labels.shape[1] > emotions:
        penalties, ridge = regress(features, clips.labels[:, emotions:], clips.speakers)
        parts.append((*ridge, *ridge))
    weight, bias, start_weight, start_bias = map(np.concatenate, zip(*parts, strict=True))
    if back is not None:
        weight, start_weight = weight @ back, start_weight @ back
    with torch.no_grad():
        head.mean.copy_(torch.from_numpy(mean))
        head.scale.copy_(torch.from_numpy(scale))
        head.linear.weight.copy_(torch.from_numpy(weight))
        head.linear.bias.copy_(torch.from_numpy(bias))
    return Solution(c, penalties, {"weight": torch.from_numpy(start_weight), "bias": torch.from_numpy(start_bias)})


def rotated(features: Features) -> tuple[Features, Features | None]:
    """
    Features on as many axes as there are clips, where there are fewer clips than features: a solution with an L2 penalty lies in
    the span of the clips, and a rotation changes neither the penalty nor the loss.

    Returns:
        The features `(clips, axes)`, and the axes `(axes, features)`; as they were, and `None`, where there are more clips.
    """
    if len(features) >= features.shape[1]:
        return features, None
    values, vectors = np.linalg.eigh((features @ features.T).astype(np.float64))
    kept = values > 1e-7 * values[-1]
    lengths, vectors = np.sqrt(values[kept]), vectors[:, kept]
    axes = (vectors / lengths).T.astype(np.float32) @ features
    return (vectors * lengths).astype(np.float32), axes


def start_layer_weights(weights: torch.Tensor, features: Features) -> None:
    """Weighs each layer by the inverse of its standard deviation, in place; `weights` `(layers,)` go through a softmax."""
    deviation = torch.from_numpy(features.std(axis=(0, 2), dtype=np.float64)).clamp(min=1e-12)
    start = -deviation.log()
    start[0] += FIRST_LAYER
    weights.copy_(start - start.max())


class Regression:
    """
    A logistic regression on `features` `(clips, features)`, which it whitens within emotions, see [`whitening`]. `labels` are the
    clips' emotions and `shares` their weights, `(clips,)`; `balanced` gives every emotion the same weight.
    """

    def __init__(self, features: Features, labels: npt.NDArray[np.int64], shares: Features, balanced: bool) -> None:
        self.factor = whitening(features, labels, shares)
        self.features, self.labels, self.shares = self.whitened(features), labels, shares
        weight = "balanced" if balanced else None
        self.fitted = LogisticRegression(max_iter=300, warm_start=True, class_weight=weight)

    def whitened(self, features: Features) -> Features:
        """Whitens features `(clips, features)`."""
        return solve_triangular(self.factor, features.T, lower=True).T

    def solve(self, c: float) -> LogisticRegression:
        """Solves it with `C`, from the solution of the call before."""
        return self.fitted.set_params(C=c).fit(self.features, self.labels, self.shares)

    def head(self, emotions: int) -> tuple[Features, Features]:
        """
        Weight `(emotions, features)` and bias `(emotions,)` for features that are not whitened. The regression may not have seen
        every emotion, or just two.
        """
        weight, bias, seen = self.fitted.coef_, self.fitted.intercept_, self.fitted.classes_
        if len(seen) == 2:  # one row, for the second against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        rows = np.zeros((emotions, weight.shape[1]), np.float32)
        # An emotion without a clip is as unlikely as the rarest of all that were seen.
        offsets = np.full(emotions, bias.min() - 10, np.float32)
        rows[seen], offsets[seen] = weight, bias
        return solve_triangular(self.factor, rows.T, lower=True, trans="T").T, offsets


def whitening(features: Features, labels: npt.NDArray[np.int64], shares: Features) -> Features:
    """
    The lower Cholesky factor `(features, features)` of the covariance within emotions: between clips of one emotion, features
    differ by speaker, sentence and recording. Whitened, all these differences count alike, and an L2 penalty keeps a model from
    relying on where they are large (within-class covariance normalisation, Hatch et al. 2006). The estimate is shrunk towards a
    multiple of the identity matrix, see `SHRINKAGE`.
    """
    residuals = features.copy()
    for label in np.unique(labels):
        of = labels == label
        residuals[of] -= np.average(features[of], axis=0, weights=shares[of])
    covariance = residuals.T @ (residuals * shares[:, None]) / shares.sum()
    identity = np.eye(len(covariance), dtype=covariance.dtype)
    shrunk = (1 - SHRINKAGE) * covariance + (SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-6) * identity
    return np.linalg.cholesky(shrunk)


def classify(
    features: Features, wanted: Rows, speakers: Sequence[str], views: int, balance: str
) -> tuple[float, Features, Features, Features, Features]:
    """
    A logistic regression on clips `(clips, features)` that have an emotion, or a distribution `(clips, emotions)`: such a clip
    counts once for each of its emotions, with its share. The `views` of a clip count together as one clip, so that `C` does not
    depend on their number.

    Returns:
        `C`, see [`choose_c`]; weight `(emotions, features)` and bias `(emotions,)`; and those that training starts from where
        the encoder trains, too, see [`START_LOSS`].
    """
    clip, labels = np.nonzero(np.nan_to_num(wanted) > 0)
    shares = (wanted / wanted.sum(axis=1, keepdims=True))[clip, labels] / views
    if len(clip) != len(features) or (clip != np.arange(len(clip))).any():
        features, speakers = features[clip], [speakers[i] for i in clip.tolist()]
    balanced = balance in ("weights", "sampling")
    c = choose_c(features, labels, shares, speakers, balanced)
    regression = Regression(features, labels, shares, balanced)
    regression.solve(c)
    weight, bias = regression.head(wanted.shape[1])
    scale = start_scale(features @ weight.T + bias, labels, shares)
    there = np.bincount(labels, shares, len(bias)) / shares.sum()
    adjustment = np.log(np.where((there > 0) & (balance == "logits"), there, 1)).astype(np.float32)
    start = np.where(there > 0, np.float32(scale) * bias, bias)  # an absent emotion stays unlikely
    return c, weight, bias - adjustment, np.float32(scale) * weight, start - adjustment


def start_scale(logits: Features, labels: npt.NDArray[np.int64], shares: Features) -> float:
    """The number from 0 to 1 of [`START_LOSS`], for logits `(clips, emotions)`; 1 if they leave as much loss by themselves."""

    def excess(scale: float) -> float:
        log_probabilities = log_softmax(scale * logits, axis=1)[np.arange(len(labels)), labels]
        return float(-np.average(log_probabilities, weights=shares) - START_LOSS * np.log(logits.shape[1]))

    return 1.0 if excess(1.0) >= 0 else float(brentq(excess, 0.0, 1.0))


def choose_c(
    features: Features,
    labels: npt.NDArray[np.int64],
    shares: Features,
    speakers: Sequence[str],
    balanced: bool,
) -> float:
    """
    The one of [`C_VALUES`] with the least log loss on training speakers that are left out. Log loss and not UAR: it moves less
    by chance, and an overconfident probe would leave no gradient to fine-tune from.
    """
    several = (fold for fold in folds(labels, speakers) if len(set(labels[fold[0]])) > 1)
    parts = [(Regression(features[train], labels[train], shares[train], balanced), test) for train, test in several]
    best = (np.inf, C_VALUES[len(C_VALUES) // 2])
    for c in C_VALUES:
        loss = 0.0
        for regression, test in parts:
            model = regression.solve(c)
            test = test[np.isin(labels[test], model.classes_)]
            if len(test):
                truth, weights = labels[test], shares[test]
                loss += log_loss(
                    truth,
                    model.predict_proba(regression.whitened(features[test])),
                    labels=model.classes_,
                    normalize=False,
                    sample_weight=weights * compute_sample_weight("balanced", truth) if balanced else weights,
                )
        if loss >= best[0]:
            break  # weaker penalties are worse still, and take longest to solve
        if parts:
            best = (loss, c)
    return best[1]


def regress(features: Features, truth: Rows, speakers: Sequence[str]) -> tuple[list[float], tuple[Features, Features]]:
    """
    A ridge regression of each dimension `(clips, dimensions)` on the clips that have it.

    The penalty is the one of [`PENALTIES`] with the highest correlation on training speakers that are left out. A ridge
    regression shrinks its predictions to the mean, which CCC counts as an error: they get the spread that the labels have.

    Returns:
        The penalty of each dimension, and weight `(dimensions, features)` and bias `(dimensions,)`.
    """
    alike: dict[bytes, list[int]] = {}  # the dimensions that the same clips have, which are solved at once
    for k, has in enumerate(np.isfinite(truth).T):
        alike.setdefault(has.tobytes(), []).append(k)
    penalties = [0.0] * truth.shape[1]
    weights = np.zeros((truth.shape[1], features.shape[1]), np.float32)
    biases = np.zeros(truth.shape[1], np.float32)
    for of in alike.values():
        rows = np.flatnonzero(np.isfinite(truth[:, of[0]]))
        inputs, wanted = features[rows], truth[rows][:, of]
        penalty, spread = choose_penalty(inputs, wanted, [speakers[i] for i in rows.tolist()])
        for k in of:
            penalties[k] = penalty
        ((weight, bias),) = ridges(inputs, wanted, [penalty])
        middle = wanted.mean(axis=0)
        weights[of], biases[of] = weight * spread[:, None], middle + (bias - middle) * spread
    return penalties, (weights, biases)


def choose_penalty(features: Features, truth: Rows, speakers: Sequence[str]) -> tuple[float, Features]:
    """
    The penalty, see [`regress`], and by what the predictions of each dimension `(dimensions,)` are to be stretched, both found on
    training speakers that are left out.
    """
    left_out = np.zeros((len(PENALTIES), *truth.shape))
    for train, test in folds(np.zeros(len(truth), np.int64), speakers):
        for k, (weight, bias) in enumerate(ridges(features[train], truth[train], PENALTIES)):
            left_out[k, test] = features[test] @ weight.T + bias
    spread, spreads = np.maximum(truth.std(axis=0), 1e-6), np.maximum(left_out.std(axis=1), 1e-6)
    centred = left_out - left_out.mean(axis=1, keepdims=True)
    correlations = (centred * (truth - truth.mean(axis=0))).mean(axis=1) / (spreads * spread)  # (penalties, dimensions)
    # Of a single speaker nothing is left out: the middle one, as of C.
    best = int(correlations.mean(axis=1).argmax()) if left_out.any() else len(PENALTIES) // 2
    return PENALTIES[best], np.where(correlations[best] > 0, spread / spreads[best], 1.0)


def ridges(features: Features, truth: Rows, penalties: Sequence[float]) -> list[tuple[Features, Features]]:
    """Weight `(dimensions, features)` and bias `(dimensions,)` of the ridge regression with each penalty."""
    mean, middle = features.mean(axis=0), truth.mean(axis=0)
    centred = features - mean
    values, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))  # once for all penalties
    along = axes.T @ (centred.T @ (truth - middle))
    weights = [(axes @ (along / (values.clip(min=0) + penalty)[:, None])).T for penalty in penalties]
    return [(weight, middle - weight @ mean) for weight in weights]


def folds(
    labels: npt.NDArray[np.int64], speakers: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Folds of the rows by speaker. None if there is only one."""
    groups = np.array([str(speaker) for speaker in speakers])
    if (number := len(set(groups))) > 1:
        yield from GroupKFold(min(FOLDS, number)).split(labels, labels, groups)


def clip_statistics(trainer: BaseTrainer, dataset: SpeechDataset, speakers: Sequence[str | None]) -> Clips:
    """
    The statistics of each clip of `dataset` that the frozen encoder under a Trainer's `linear` head computes in the training's
    precision, from the cache of frozen layers where there is one. `speakers` are those of all clips of the run.

    Returns:
        Of augmented clips `frozen_cache_views` views of each; where the outputs are not cached, each clip once and not augmented.
    """
    plain = copy.copy(dataset)
    plain.augmentation = None  # without a cache there is one view, the clip as it is
    seen = dataset if trainer.args.frozen_cache_views else plain
    with cached_predictions(trainer, seen, trainer.accelerator.mixed_precision) as cached:
        if isinstance(cached, FrozenFeatures):
            views, features = len(cached.keys), cached.vectors().numpy()
            labels, clip = np.concatenate(cached.mixed), np.tile(dataset.segments.clip, views)
        else:
            views, (features, labels, clip) = 1, computed(trainer, plain)
    used = np.isfinite(labels).any(axis=1)
    # A clip of an unknown speaker is left out with its other views and segments.
    return Clips(features[used], labels[used], [speakers[i] or f"clip {i}" for i in clip[used]], views)


@torch.no_grad()
def computed(trainer: BaseTrainer, dataset: SpeechDataset) -> tuple[Features, Rows, npt.NDArray[np.int64]]:
    """Runs the frozen encoder on clips, without a cache. Returns their statistics, labels and indices."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model).eval()
    part = frozen_part(model)
    assert part is not None
    found: list[list[torch.Tensor]] = []
    for batch in trainer.get_eval_dataloader(dataset):
        inputs = {name: batch[name] for name in (model.main_input_name, "attention_mask")}
        with trainer.accelerator.autocast():
            statistics = trainer.in_fitting_parts(
                lambda some: torch.cat(compute(model, part, some[model.main_input_name], some["attention_mask"])),
                inputs,
            )
        together = torch.cat(statistics).to(batch["labels"].device)
        found.append(trainer.accelerator.gather_for_metrics((together, batch["labels"], batch["clip"])))
    features, labels, clip = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
    return features, labels, clip


def most_clips(trainer: BaseTrainer) -> int:
    """The number of clips that the probe of a Trainer's model is solved on at most; fewer with a large encoder."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    layers = len(model.layer_weights) if model.config.use_weighted_layer_sum else 1
    views = trainer.args.frozen_cache_views if trainer.train_dataset.augmentation else 1
    numbers = layers * model.projector.linear.in_features * max(views, 1)
    return int(min(MOST_CLIPS, max(MOST_NUMBERS // numbers, LEAST_CLIPS)))


def solve_probe(
    trainer: BaseTrainer, dataset: SpeechDataset, speakers: Sequence[str | None]
) -> tuple[Solution, dict[str, Any]]:
    """
    Solves the probe of a Trainer's model on a dataset of training clips, and starts its `linear` head from it.

    Returns:
        The solution, and how it was found: `C`, the penalties, `clips`, `views`, and the `seconds` that it took with the frozen
        pass.
    """
    began = time.perf_counter()
    clips = clip_statistics(trainer, dataset, speakers)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    # accelerate launch leaves NumPy and SciPy a single thread.
    with warnings.catch_warnings(), threadpool_limits(trainer.args.threads, "blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = solve(model, clips, emotions=len(dataset.targets.emotions), balance=trainer.args.balance)
    seconds = time.perf_counter() - began
    chosen = {} if solution.c is None else {"C": solution.c}
    chosen |= {
        f"penalty of {name}": value
        for name, value in zip(dataset.targets.dimensions, solution.penalties or (), strict=True)
    }
    logger.info(
        "probe: solved on %d clips (%d views of each) in %.1f s; %s by cross-validation over training speakers",
        len(dataset),
        clips.views,
        seconds,
        ", ".join(f"{name}={value:g}" for name, value in chosen.items()),
    )
    return solution, {**chosen, "clips": len(dataset), "views": clips.views, "seconds": round(seconds, 1)}
