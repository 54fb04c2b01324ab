"""Measures of predictions for emotions, distributions and dimensions, each on the clips that have such a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset

from hf_ser.clips import column, emotion_column
from hf_ser.emotions import DISTRIBUTION, EMOTION
from hf_ser.evaluation.bootstrap import intervals
from hf_ser.evaluation.dimensions import Array, Scorer, dimension_scorer, distribution_scorer, mean_scorer, values_of
from hf_ser.evaluation.metrics import all_metrics, weighted_scorer
from hf_ser.targets import dimension_rows, numbers

#: All dimensions together: their mean CCC.
ALL_DIMENSIONS = "dimensions"
#: The main metric of emotions, and that of dimensions.
MAIN = {EMOTION: "uar", ALL_DIMENSIONS: "ccc"}


@dataclass(frozen=True)
class Measure:
    """
    The metrics of a target.

    Args:
        rows (`list[int]`): The indices of the clips with such a label.
        scorer (`Scorer`): From integer weights `(labelled, resamples)` to each metric `(resamples,)`.
        speakers (`list`, *optional*): The speaker of each of them, or `None`.
    """

    rows: Sequence[int]
    scorer: Scorer
    speakers: Sequence[str | None] | None

    def intervals(self, **drawing: Any) -> dict[str, Any]:
        """See [`~hf_ser.evaluation.bootstrap.intervals`]."""
        return intervals(self.scorer, len(self.rows), self.speakers, **drawing)

    def values(self) -> dict[str, Any]:
        """The metrics on these clips; `None` if one is undefined."""
        return values_of(self.scorer, len(self.rows))

    def metrics(self, **drawing: Any) -> dict[str, Any]:
        """The number of `clips`, the metrics, and with options of intervals the `intervals`; ready for JSON."""
        drawn = {"intervals": self.intervals(**drawing)} if drawing else {}
        return {"clips": len(self.rows), **self.values(), **drawn}

    def mean_of_speakers(self, metric: str) -> float | None:
        """The mean of a metric over the known speakers for whom it is defined."""
        names = np.array([speaker or "" for speaker in self.speakers or ()])
        own = names[:, None] == np.array(sorted({*names.tolist()} - {""}), dtype=str)  # (clips, speakers)
        each = self.scorer(own.astype(np.int64))[metric]
        each = each[np.isfinite(each)]
        return float(each.mean()) if each.size else None


@dataclass(frozen=True)
class Evaluated:
    """
    Predictions for clips, and the truth. Of n clips, e emotions and d dimensions, either of which may be 0:

    Args:
        emotions, dimensions (`tuple[str, ...]`): Their names.
        probabilities (`array` of shape `(n, e)`): The predicted ones.
        values (`array` of shape `(n, d)`): The predicted dimensions.
        labels (`array` of shape `(n,)`): The true emotions, -1 for a clip without one.
        shares (`array` of shape `(n, e)`): The distributions of the raters' votes, NaN for a clip without one.
        truth (`array` of shape `(n, d)`): The true dimensions, NaN where a clip has none.
        speakers (`list`): The speaker of each clip, or `None`.
    """

    emotions: tuple[str, ...]
    dimensions: tuple[str, ...]
    probabilities: Array
    values: Array
    labels: Array
    shares: Array
    truth: Array
    speakers: Sequence[str | None]

    @classmethod
    def of(
        cls,
        clips: Dataset,
        emotions: tuple[str, ...],
        dimensions: tuple[str, ...],
        probabilities: Array,
        values: Array,
        *,
        by_votes: bool = False,
    ) -> "Evaluated":
        """
        Takes the truth from the columns `label`, `emotion_distribution` and those of the dimensions. With `by_votes` the true
        emotion is the one with most votes.
        """
        labels, shares = np.full(len(clips), -1), np.full(probabilities.shape, np.nan)
        if emotions:
            labels, shares = emotion_column(clips).codes, numbers(clips, DISTRIBUTION, len(emotions))
            if by_votes:
                labels = np.where(np.isfinite(shares[:, 0]), shares.argmax(axis=1), -1)
        speakers, truth = list(column(clips, "speaker")), dimension_rows(clips, dimensions)
        return cls(emotions, dimensions, probabilities, values, labels, shares, truth, speakers)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> list[int]:
        """The clips with an emotion, if the model has emotions."""
        return np.flatnonzero(self.labels >= 0).tolist() if self.emotions else []

    def select(self, rows: Array) -> "Evaluated":
        """Some of the clips, by their indices `(some,)`."""
        arrays = {name: getattr(self, name)[rows] for name in ("probabilities", "values", "labels", "shares", "truth")}
        return replace(self, **arrays, speakers=[self.speakers[row] for row in rows])

    def only(self, emotions: tuple[str, ...], dimensions: tuple[str, ...]) -> "Evaluated":
        """With all the emotions or none, and with some of the dimensions."""
        places = [self.dimensions.index(name) for name in dimensions]
        kept = {name: getattr(self, name)[:, : len(emotions)] for name in ("probabilities", "shares")}
        kept |= {name: getattr(self, name)[:, places] for name in ("values", "truth")}
        return replace(self, emotions=emotions, dimensions=dimensions, **kept)

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """
        The measure of each target that clips have labels of: `emotion`, `emotion_distribution`, each dimension, and all
        `dimensions`.
        """
        found = {EMOTION: self._emotion()} if self.labelled else {}
        for name, outputs, truth, scorer in (
            (DISTRIBUTION, self.probabilities, self.shares, distribution_scorer),
            (ALL_DIMENSIONS, self.values, self.truth, mean_scorer),
            *((name, self.values[:, k], self.truth[:, k], dimension_scorer) for k, name in enumerate(self.dimensions)),
        ):
            if rows := np.flatnonzero(np.isfinite(truth).reshape(len(self), -1).any(axis=1)).tolist():
                found[name] = self._measure(rows, scorer(outputs[rows], truth[rows]))
        return found

    def _emotion(self, details: bool = False) -> Measure:
        rows = self.labelled
        return self._measure(rows, weighted_scorer(self.probabilities[rows], self.labels[rows], details))

    def _measure(self, rows: list[int], scorer: Scorer) -> Measure:
        return Measure(rows, scorer, [self.speakers[row] for row in rows])

    def metrics(self, **drawing: Any) -> dict[str, Any]:
        """
        The metrics, ready for JSON; `None` where one is undefined.

        Args:
            **drawing: If there are any, the options of the intervals of the dimensions and of the distribution.

        Returns:
            The number of `clips`. If some have an emotion, those of [`~hf_ser.evaluation.metrics.all_metrics`] on these. If some
            have a dimension, `ccc`, the mean over the dimensions, and by name in `dimensions` for each its `clips`, `ccc`, `mae`
            and `ccc_by_speaker`, the mean of the speakers' own. If some have votes, in `distribution` its `clips` and those of
            [`~hf_ser.evaluation.dimensions.distribution_scorer`].
        """
        measures = self.measures
        found: dict[str, Any] = {}
        if rows := self.labelled:
            found |= all_metrics(self.probabilities[rows], self.labels[rows], self.emotions)
        if ALL_DIMENSIONS in measures:
            found |= measures[ALL_DIMENSIONS].values()
            found["dimensions"] = {
                name: {**measures[name].metrics(**drawing), "ccc_by_speaker": measures[name].mean_of_speakers("ccc")}
                for name in self.dimensions
                if name in measures
            }
        if DISTRIBUTION in measures:
            found["distribution"] = measures[DISTRIBUTION].metrics(**drawing)
        return {**found, "clips": len(self)}

    def intervals(self, details: bool = False, **drawing: Any) -> dict[str, Any] | None:
        """The intervals of the metrics over emotions, with `details` or not, and of the mean CCC; `None` without any label."""
        measures = self.measures | ({EMOTION: self._emotion(details)} if details and self.labelled else {})
        found = [measures[target].intervals(**drawing) for target in MAIN if target in measures]
        return merged(found) if found else None


def merged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Joins results of several targets: dicts of metrics, by unit or model, are merged. Of other values, such as the reason why
    there is no interval, the first one is taken.
    """
    together: dict[str, Any] = {}
    for one in found:
        for key, of in one.items():
            together[key] = {**(together.get(key) or {}), **of} if isinstance(of, dict) else together.get(key, of)
    return together
