"""The emotions, their other names, and how a user selects and merges them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_ser.wording import listed

#: The eight emotions of HuBERT-SER, in the order of its Tables 4 to 6.
EMOTIONS = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")

#: The dimensions in which emotions are rated.
DIMENSIONS = ("arousal", "valence", "dominance")
#: The targets that a model can predict.
EMOTION, DISTRIBUTION = "emotion", "emotion_distribution"
TARGETS = (EMOTION, DISTRIBUTION, *DIMENSIONS)

#: Other words for them, as corpora, manifests and models on the Hub spell them.
SYNONYMS = {
    "ang": "angry",
    "anger": "angry",
    "dis": "disgust",
    "disgusted": "disgust",
    "fea": "fear",
    "fearful": "fear",
    "afraid": "fear",
    "hap": "happy",
    "happiness": "happy",
    "joy": "happy",
    "neu": "neutral",
    "sadness": "sad",
    "sur": "surprise",
    "surprised": "surprise",
    "pleasant_surprise": "surprise",
    "pleasant_surprised": "surprise",
    "ps": "surprise",
    "cal": "calm",
    "calmness": "calm",
}


def canonical(word: str) -> str:
    """The emotion that `word` names: one of `EMOTIONS` where it is known, else the word itself in lower case."""
    key = word.strip().lower().replace(" ", "_").replace("-", "_")
    return SYNONYMS.get(key, key)


def parse_targets(words: Sequence[str]) -> dict[str, float]:
    """
    The weight of each target's loss: `["emotion", "arousal=0.5"]` is `{"emotion": 1.0, "arousal": 0.5}`.

    Raises:
        ValueError: if there is no target, one is unknown or there twice, or a weight is not a positive number.
    """
    weights: dict[str, float] = {}
    for word in words:
        name, equals, number = word.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if name not in TARGETS or name in weights or not 0 < weight < math.inf:
            raise ValueError(
                f"targets: found {word!r}, expected each of {listed(TARGETS)} at most once, with a positive weight if it is not "
                "1: arousal=0.5"
            )
        weights[name] = weight
    if not weights:
        raise ValueError(f"targets: found none, expected at least one of {listed(TARGETS)}")
    return weights


def require_range(dimension_range: Sequence[float] | None) -> None:
    """
    Raises:
        ValueError: if a scale of dimensions is given that is not two values, the lower one first.
    """
    if dimension_range and not (len(dimension_range) == 2 and dimension_range[0] < dimension_range[1]):
        found = " and ".join(f"{value:g}" for value in dimension_range)
        raise ValueError(f"dimension_range: expected the lowest and the highest value, found {found}")


@dataclass(frozen=True)
class EmotionSelection:
    """
    The emotions that a run classifies, and those that count as others.

    Args:
        names (`tuple[str, ...]`):
            The emotions of the run, in alphabetical order: label `i` is `names[i]`.
        merged (`dict[str, str]`):
            Emotions counted as another: `{"calm": "neutral"}`.
        chosen (`bool`, defaults to `False`):
            Whether the user named the emotions to keep, so that all others are left out on purpose.
    """

    names: tuple[str, ...]
    merged: dict[str, str]
    chosen: bool = False

    @classmethod
    def parse(cls, words: Iterable[str]) -> "EmotionSelection":
        """
        Reads a selection of the user: emotions to keep and `from=to` merges, in any order.

        `["neutral", "happy", "sad", "angry", "calm=neutral"]` keeps four emotions and counts calm as neutral;
        `["calm=neutral"]` merges alone and keeps all the others. An emotion outside `EMOTIONS` may be named.

        Raises:
            ValueError: if fewer than two emotions are left, or a merge is not of the form `from=to`.
        """
        kept: list[str] = []
        merged: dict[str, str] = {}
        for word in words:
            source, equals, target = word.partition("=")
            if not equals:
                kept.append(canonical(word))
            elif source.strip() and target.strip():
                merged[canonical(source)] = canonical(target)
            else:
                raise ValueError(f"emotions: {word!r} is no merge; write it as from=to, for instance calm=neutral")
        if chained := sorted(set(merged) & set(merged.values())):
            raise ValueError(f"emotions: {chained[0]!r} is merged into another emotion and is also a target of a merge")
        names = set(kept or EMOTIONS) - set(merged) | set(merged.values())
        if len(names) < 2:
            raise ValueError(f"emotions: at least two emotions are needed to tell apart, found {sorted(names)}")
        return cls(tuple(sorted(names)), merged, bool(kept))

    def label(self, emotion: str) -> str | None:
        """The run's emotion that a clip of `emotion` counts as, or `None` if the run leaves it out."""
        emotion = self.merged.get(emotion, emotion)
        return emotion if emotion in self.names else None

    def knows(self, emotion: str) -> bool:
        """
        Whether the selection covers `emotion`: it is one of the eight, the user named it, or the user named all emotions to keep
        and it is none of them. An empty word is never covered.
        """
        return emotion in (*EMOTIONS, *self.names, *self.merged) or (self.chosen and emotion != "")
