"""Whether a model treats the genders alike: demographic parity and equality of odds, as PEFT-SER's Table VI has them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.evaluation.calibration import check_labels

Array = npt.NDArray[Any]

#: The figures, in the order in which they are told.
FIGURES = ("demographic_parity", "equality_of_odds")
#: The rates of each emotion against the others.
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def fairness(
    predictions: Any,
    labels: Any,
    genders: Sequence[str | None],
    emotions: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How far a model's answers depend on the speaker's gender, ready for JSON (PEFT-SER, section VI.D and Table VI).

    Both figures lie between 0, the genders are treated alike, and 1 (Table VI has them in per cent, as the mean of the
    folds). With genders g and h, emotions k (said) and j (true), and shares P of the clips:

        demographic parity  =  1/2  sum over k  | P(said k | g) - P(said k | h) |
        equality of odds    =  mean over j of  1/2  sum over k  | P(said k | g, true j) - P(said k | h, true j) |

    that is the total variation distance between what is said of the two genders, without regard to the truth, and that of
    the clips of one true emotion, averaged over the emotions, each alike. Of more than two genders, the two that lie
    farthest apart count.

    These are `multiclass_statistical_parity` and `multiclass_equality_of_opp` of holisticai with `aggregation_fun="max"`,
    which the code released with the paper calls; they have not changed between the version named there, 0.3.0, and 1.0.14.
    (The maximum is over pairs of genders, not over emotions, and so makes no difference between two; and what is called
    equality of opportunity there compares whole rows of the confusion matrix, wrong answers, too: equality of odds.) The
    paper's text has no formula, and its code a third function besides, the largest of | P(said k, true k | g) -
    P(said k, true k | h) |, which depends on the truth and thus is no demographic parity; it is not taken here.

    The formulas are restated because holisticai takes a gender that has no clip of an emotion for one that gets each answer
    equally often; here such a figure is `None`. Where every emotion has clips of every gender, the figures are the same.

    Args:
        predictions (`array` of shape `(clips,)`): What the model says, integers from 0 to emotions - 1.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.
        genders (`list` of `str` or `None`): The speaker's gender in each clip; clips of an unknown one are left out.
        emotions (`list` of `str`): The emotions' names.
        draws (`int`, *optional*, defaults to 1000): How often genders are dealt by lot, for `by_chance`.
        seed (`int`, *optional*, defaults to 0): Of the lots.

    Returns:
        - `demographic_parity`, `equality_of_odds`: the figures, or `None`; `reason` then says why, and is `None` otherwise;
        - `by_chance`: `draws`, `seed`, and for either figure its `median` and `p95` (the 95th percentile) if the gender made no
          difference to the answers, or `None`: the genders are dealt by lot to all clips, or to those of each true emotion,
          as often as they are there. No figure is below 0, and with few clips each is well above it whatever the model does.
          Clips count as independent: that few speakers differ makes more, which tells nothing of gender either;
        - `clips`: the number of clips of each gender, `unknown`: that of the clips left out;
        - `by_emotion`: of each emotion the `clips` of each gender; `selection_rate`, `true_positive_rate` and
          `false_positive_rate`, each by gender (the share that is said to be of the emotion, among all clips, those that
          are of it, and those that are not; `None` where there are no such clips); and `difference`: how far each of the
          rates lies apart between the genders, `None` where one lacks it or there is one gender alone.

        As in UAR, an emotion that no clip has is left out of the mean. One that clips of some genders have, but not of all,
        leaves no equality of odds.

    Raises:
        ValueError: if there is no clip, the lengths differ, a prediction or a label is no integer or out of range, or
            `emotions` are not different names.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    _check(predictions, labels, genders, emotions)
    names = sorted({str(gender) for gender in genders if gender is not None})
    counts = _count(predictions, labels, genders, names, len(emotions))
    return {
        **(compared := _compare(counts, names, emotions)),
        "by_chance": {
            "draws": draws,
            "seed": seed,
            **{key: _by_chance(key, counts, draws, seed) if compared[key] is not None else None for key in FIGURES},
        },
        "clips": dict(zip(names, map(int, counts.sum(axis=(1, 2))), strict=True)),
        "unknown": len(labels) - int(counts.sum()),
        "by_emotion": {emotion: _of_emotion(counts, k, names) for k, emotion in enumerate(emotions)},
    }


def _check(predictions: Array, labels: Array, genders: Sequence[str | None], emotions: Sequence[str]) -> None:
    if predictions.ndim != 1 or predictions.shape != labels.shape or len(genders) != len(labels) or not len(labels):
        raise ValueError(
            f"fairness needs a prediction, a label and a gender, or None, for each of at least one clip; found shapes "
            f"{predictions.shape} and {labels.shape}, and {len(genders)} genders"
        )
    if len(set(emotions)) != len(emotions):
        raise ValueError(f"emotions need different names; found {list(emotions)}")
    check_labels(predictions, len(emotions), "prediction")
    check_labels(labels, len(emotions), "label")


def _count(
    predictions: Array, labels: Array, genders: Sequence[str | None], names: Sequence[str], emotions: int
) -> npt.NDArray[np.int64]:
    """The clips of known genders: `(genders, true, said)`."""
    counts = np.zeros((len(names), emotions, emotions), dtype=np.int64)
    known = [clip for clip, gender in enumerate(genders) if gender is not None]
    whose = np.array([names.index(str(genders[clip])) for clip in known], dtype=np.int64)
    np.add.at(counts, (whose, labels[known], predictions[known]), 1)
    return counts


def _compare(counts: Array, names: Sequence[str], emotions: Sequence[str]) -> dict[str, Any]:
    """Both figures of the clips `counts` `(genders, true, said)`, or why there is none."""
    found: dict[str, Any] = {"demographic_parity": None, "equality_of_odds": None, "reason": None}
    true = counts.sum(axis=2)  # (genders, emotions)
    there = true.sum(axis=0) > 0
    lacking = [
        f"{emotion} ({gender})"
        for k, emotion in enumerate(emotions)
        for g, gender in enumerate(names)
        if there[k] and not true[g, k]
    ]
    if not names:
        found["reason"] = "the speakers' genders are not known"
    elif len(names) == 1:
        found["reason"] = f"all clips of a known gender are {names[0]}: there is no other to compare with"
    else:
        said = counts.sum(axis=1)
        found["demographic_parity"] = _farthest(said / said.sum(axis=1, keepdims=True))
        if lacking:
            found["reason"] = f"no equality of odds, as emotions lack clips of a gender: {', '.join(lacking)}"
        else:
            found["equality_of_odds"] = _farthest(counts[:, there] / true[:, there, None])
    return found


def _farthest(shares: Array) -> float:
    """The total variation distance of the two genders farthest apart: `shares` `(genders, ..., said)`, averaged between."""
    return float(max(_apart(shares)))


def _apart(shares: Array) -> list[Array]:
    """For each two genders their total variation distance: `shares` `(genders, ..., said)`, averaged over the axis before it."""
    each = [np.abs(shares[g] - shares[h]).sum(axis=-1) / 2 for g, h in combinations(range(len(shares)), 2)]
    return [one.mean(axis=-1) if one.ndim else one for one in each]


def _by_chance(figure: str, counts: Array, draws: int, seed: int) -> dict[str, float]:
    """The median and 95th percentile of a figure where the genders are dealt to the clips `counts` `(genders, true, said)`."""
    rng = np.random.default_rng(seed)
    if figure == "demographic_parity":
        counts = counts.sum(axis=1, keepdims=True)  # the truth is no matter
    counts = counts[:, counts.sum(axis=(0, 2)) > 0]
    dealt = np.stack(
        [_deal(counts[:, k], draws, rng) for k in range(counts.shape[1])], axis=2
    )  # (genders, draws, true, said)
    figures = np.max(_apart(dealt / dealt.sum(axis=-1, keepdims=True)), axis=0)
    return {"median": float(np.median(figures)), "p95": float(np.percentile(figures, 95))}


def _deal(counts: Array, draws: int, rng: np.random.Generator) -> Array:
    """Clips `(genders, said)`, their genders dealt anew, as often as each is there: `(genders, draws, said)`."""
    left = np.repeat(counts.sum(axis=0)[None], draws, axis=0)
    dealt = []
    for size in counts.sum(axis=1)[:-1]:
        drawn = np.stack([rng.multivariate_hypergeometric(row, size, method="marginals") for row in left])
        dealt.append(drawn)
        left = left - drawn
    return np.stack([*dealt, left])


def _of_emotion(counts: Array, k: int, names: Sequence[str]) -> dict[str, Any]:
    """The clips and rates of emotion `k` against the others, from the clips `counts` `(genders, true, said)`."""
    clips, true, said = counts.sum(axis=(1, 2)), counts[:, k].sum(axis=1), counts[:, :, k].sum(axis=1)
    right = counts[:, k, k]
    of_rate = dict(zip(RATES, ((said, clips), (right, true), (said - right, clips - true)), strict=True))
    found: dict[str, Any] = {"clips": dict(zip(names, map(int, true), strict=True))}
    difference: dict[str, float | None] = {}
    for rate, (part, whole) in of_rate.items():
        rates = [float(a / b) if b else None for a, b in zip(part, whole, strict=True)]
        found[rate] = dict(zip(names, rates, strict=True))
        each = [one for one in rates if one is not None]
        difference[rate] = max(each) - min(each) if len(each) == len(names) > 1 else None
    return {**found, "difference": difference}
