"""How far predictions depend on the speaker's gender: demographic parity and equality of odds (PEFT-SER, Table VI)."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hf_ser.evaluation.bootstrap import CHUNK
from hf_ser.evaluation.dimensions import Array, dimension_scorer

METRICS = ("demographic_parity", "equality_of_odds")
#: The metrics of a dimension that genders are compared by.
DIMENSION_METRICS = ("mean_error", "ccc")
#: The rates of each emotion against the others.
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def fairness(
    predictions: Array,
    labels: Array,
    genders: Sequence[str | None],
    emotions: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How far a model's predictions depend on the speaker's gender, ready for JSON (PEFT-SER, section VI.D and Table VI).

    Both metrics are between 0 (no difference between the genders) and 1 (Table VI has them in per cent, as the mean of the
    folds). With genders g and h, emotions k (predicted) and j (true), and shares P of the clips:

        demographic parity  =  1/2  sum over k  | P(predicted k | g) - P(predicted k | h) |
        equality of odds    =  mean over j of  1/2  sum over k  | P(predicted k | g, true j) - P(predicted k | h, true j) |

    Of more than two genders, the two with the largest difference count.

    These are `multiclass_statistical_parity` and `multiclass_equality_of_opp` of holisticai with `aggregation_fun="max"`, which
    the code released with the paper calls. If a gender has no clip of an emotion, holisticai assumes that all predictions are
    equally frequent; here such a metric is `None`. If every emotion has clips of every gender, the metrics are the same. (The
    code's third function depends on the truth and is no demographic parity; it is left out here.)

    Args:
        predictions (`array` of shape `(clips,)`): The predictions, integers from 0 to emotions - 1.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.
        genders (`list` of `str` or `None`): The speaker's gender in each clip; clips of an unknown one are left out.
        emotions (`list` of `str`): The emotions' names.
        draws (`int`, *optional*, defaults to 1000): The number of random permutations of the genders, for `by_chance`.
        seed (`int`, *optional*, defaults to 0): The seed of the permutations.

    Returns:
        - `demographic_parity`, `equality_of_odds`: the metrics, or `None`; `reason` then has the reason, and is `None` otherwise;
        - `by_chance`: `draws`, `seed`, and for each metric its `median` and `p95` (the 95th percentile) if the gender had no
          effect: genders are permuted over all clips, or over those of each true emotion. With few clips they are well above 0
          for any model. Clips count as independent;
        - `clips`: the number of clips of each gender, `unknown`: that of the clips left out;
        - `by_emotion`: of each emotion the `clips` of each gender; `selection_rate`, `true_positive_rate` and
          `false_positive_rate`, each by gender (the share that is predicted as the emotion, among all clips, the clips of the
          emotion, and the others; `None` if there are no such clips); and `difference`: the difference of each rate between the
          genders, `None` if one has no rate or there is only one gender.

        As in UAR, emotions without clips are left out of the mean. If only some genders have clips of an emotion, there is no
        equality of odds.
    """
    names = sorted({str(gender) for gender in genders if gender is not None})
    counts = np.zeros((len(names), len(emotions), len(emotions)), dtype=np.int64)  # (genders, true, predicted)
    for gender, true, predicted in zip(genders, labels, predictions, strict=True):
        if gender is not None:
            counts[names.index(gender), true, predicted] += 1
    compared = _compare(counts, names, emotions)
    chance = {key: _by_chance(key, counts, draws, seed) if compared[key] is not None else None for key in METRICS}
    return {
        **compared,
        "by_chance": {"draws": draws, "seed": seed, **chance},
        "clips": dict(zip(names, map(int, counts.sum(axis=(1, 2))), strict=True)),
        "unknown": len(labels) - int(counts.sum()),
        "by_emotion": {emotion: _of_emotion(counts, k, names) for k, emotion in enumerate(emotions)},
    }


def _compare(counts: Array, names: Sequence[str], emotions: Sequence[str]) -> dict[str, Any]:
    """Both metrics of the clips `counts` `(genders, true, predicted)`, or the reason why there is none."""
    found: dict[str, Any] = {**dict.fromkeys(METRICS), "reason": _why_none(names)}
    if found["reason"]:
        return found
    true, said = counts.sum(axis=2), counts.sum(axis=1)  # (genders, emotions)
    there = true.sum(axis=0) > 0
    found["demographic_parity"] = float(max(_apart(said / said.sum(axis=1, keepdims=True))))
    lacking = [
        f"{emotion} ({gender})"
        for k, emotion in enumerate(emotions)
        for g, gender in enumerate(names)
        if there[k] and not true[g, k]
    ]
    if lacking:
        found["reason"] = f"no equality of odds, as emotions lack clips of a gender: {', '.join(lacking)}"
    else:
        found["equality_of_odds"] = float(max(_apart(counts[:, there] / true[:, there, None])))
    return found


def _why_none(names: Sequence[str]) -> str | None:
    """The reason why genders cannot be compared, if there is one."""
    if not names:
        return "the speakers' genders are not known"
    return f"all clips of a known gender are {names[0]}: there is no other to compare with" if len(names) == 1 else None


def _apart(shares: Array) -> list[Array]:
    """The total variation distances of two genders each: `shares` `(genders, ..., predicted)`, averaged over the axis before."""
    each = [np.abs(shares[g] - shares[h]).sum(axis=-1) / 2 for g, h in combinations(range(len(shares)), 2)]
    return [one.mean(axis=-1) if one.ndim else one for one in each]


def _by_chance(metric: str, counts: Array, draws: int, seed: int) -> dict[str, float]:
    """The median and 95th percentile of a metric, the genders permuted over the clips `counts` `(genders, true, predicted)`."""
    rng = np.random.default_rng(seed)
    if metric == "demographic_parity":
        counts = counts.sum(axis=1, keepdims=True)  # the truth has no effect
    counts = counts[:, counts.sum(axis=(0, 2)) > 0]
    dealt = np.stack(
        [_permuted(counts[:, k], draws, rng) for k in range(counts.shape[1])], axis=2
    )  # (genders, draws, true, predicted)
    return _of_draws(np.max(_apart(dealt / dealt.sum(axis=-1, keepdims=True)), axis=0))


def _of_draws(values: Array) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def _permuted(counts: Array, draws: int, rng: np.random.Generator) -> Array:
    """Clips `(genders, predicted)`, their genders permuted: `(genders, draws, predicted)`."""
    left = np.repeat(counts.sum(axis=0)[None], draws, axis=0)
    dealt = []
    for size in counts.sum(axis=1)[:-1]:
        drawn = np.stack([rng.multivariate_hypergeometric(row, size, method="marginals") for row in left])
        dealt.append(drawn)
        left = left - drawn
    return np.stack([*dealt, left])


def _of_emotion(counts: Array, k: int, names: Sequence[str]) -> dict[str, Any]:
    """The clips and rates of emotion `k` against the others, from the clips `counts` `(genders, true, predicted)`."""
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


def fairness_of_dimension(
    values: Array, truth: Array, genders: Sequence[str | None], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """
    How far the predictions of a dimension depend on the speaker's gender, ready for JSON.

    Args:
        values, truth (`array` of shape `(clips,)`): Predictions and labels from 0 to 1, NaN where a clip has no label.
        genders, draws, seed: See [`fairness`].

    Returns:
        - `mean_error`, `ccc`: the difference between the genders in the mean of prediction minus label, and in the concordance
          correlation coefficient; `None` if a gender has none, with the `reason`. Of more than two genders, the two with the
          largest difference count;
        - `by_chance`: as in [`fairness`], with the genders permuted over all clips with a label;
        - `by_gender`: for each its `clips`, `mean_error` and `ccc`; `unknown`: the number of clips with a label and no gender.
    """
    labelled = np.flatnonzero(np.isfinite(truth)).tolist()
    known = [i for i in labelled if genders[i] is not None]
    names = sorted({str(genders[i]) for i in known})
    codes = np.array([names.index(str(genders[i])) for i in known])
    errors, scorer = (values - truth)[known], dimension_scorer(values[known], truth[known])

    def score(gender_of_clip: Array) -> Array:
        """The metrics `(metrics, genders, draws)` where the clips have genders `(clips, draws)`."""
        each = [(gender_of_clip == gender).astype(np.float64) for gender in range(len(names))]
        return np.array([[errors @ own / own.sum(axis=0) for own in each], [scorer(own)["ccc"] for own in each]])

    found: dict[str, Any] = dict.fromkeys(DIMENSION_METRICS)
    found |= {"reason": _why_none(names), "by_chance": {"draws": draws, "seed": seed, **found}, "by_gender": {}}
    found["unknown"] = len(labelled) - len(known)
    if not names:
        return found
    own = score(codes[:, None])[:, :, 0]
    for k, name in enumerate(names):
        each = [float(one) if np.isfinite(one) else None for one in own[:, k]]
        found["by_gender"][name] = {"clips": int((codes == k).sum()), **dict(zip(DIMENSION_METRICS, each, strict=True))}
    if len(names) == 1:
        return found
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // len(codes))
    dealt = [score(rng.permuted(np.tile(codes, (min(at_once, draws - first), 1)), axis=1).T)
             for first in range(0, draws, at_once)]  # fmt: skip
    by_chance = np.ptp(np.concatenate(dealt, axis=2), axis=1)  # (metrics, draws)
    for metric, apart, drawn in zip(DIMENSION_METRICS, np.ptp(own, axis=1), by_chance, strict=True):
        drawn = drawn[np.isfinite(drawn)]
        if np.isfinite(apart) and len(drawn):
            found[metric] = float(apart)
            found["by_chance"][metric] = _of_draws(drawn)
        else:
            found["reason"] = "CCC is undefined for a gender: all its labels are the same"
    return found
