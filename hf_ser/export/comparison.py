"""How far the answers of an exported model are from those of the model that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from transformers import AudioClassificationPipeline

from hf_ser.audio import read_mono
from hf_ser.corpora import read_corpora, synthetic
from hf_ser.emotions import EMOTIONS
from hf_ser.inference import Clip, Prediction, find_clips, predict

#: How many clips are made up for every export.
MADE_UP = 8
#: Seconds in a padded batch: all made-up clips are in one, the shortest beside the longest.
BATCH = 60.0
#: A batch of less than the shortest clip has one clip in it.
ALONE = 1e-3


@dataclass(frozen=True)
class Comparison:
    """
    The answers of two models to the same clips.

    Args:
        clips (`int`): How many clips both have answered for.
        seconds (`float`): Their length together.
        alone (`float`): The largest difference of a probability, each clip by itself.
        batch (`float`): The same of the graph in padded batches, against the model's answers for each clip by itself. In int8
            it is larger, because a batch is quantised as one; [`ExportedModel`] takes one clip after the other there.
        equal (`float`): For which share of the clips, each by itself, both choose the same emotion.
    """

    clips: int
    seconds: float
    alone: float
    batch: float
    equal: float


def made_up_clips(count: int = MADE_UP, seed: int = 0) -> list[Clip]:
    """Babble of different speakers and emotions, the shortest of 1 s and the longest of 7 s."""
    sources = []
    for i, seconds in enumerate(np.linspace(1, 7, count)):
        rng = np.random.default_rng((seed, i))
        speaker = synthetic.Speaker.draw(i, rng)
        prosody = synthetic.PROSODY[EMOTIONS[i % len(EMOTIONS)]]
        pieces: list[np.ndarray] = []
        while sum(map(len, pieces)) < seconds * synthetic.RATE:
            pieces.append(synthetic.babble(speaker, prosody, rng))
        waveform = np.concatenate(pieces)[: round(seconds * synthetic.RATE)]
        sources.append({"array": waveform, "sampling_rate": synthetic.RATE, "path": f"made up {i}"})
    return find_clips(sources)


def chosen_clips(sources: Sequence[str], corpora: Sequence[str], most: int, seed: int = 0) -> list[Clip]:
    """
    Clips of the user's, drawn at random.

    Args:
        sources (`Sequence[str]`): Files, folders and patterns, see `find_clips`.
        corpora (`Sequence[str]`): `NAME=PATH`, see `read_corpora`.
        most (`int`): How many at most, of all of them together.
        seed (`int`, defaults to 0): Of the draw.

    Raises:
        FileNotFoundError: if there is no such file.
        CorpusError: if a corpus cannot be read.
    """
    clips = find_clips(sources)
    for corpus in read_corpora(corpora) if corpora else []:
        rows = corpus.select(np.random.default_rng(seed).permutation(len(corpus))[:most])
        clips += [Clip(f"{row['corpus']} {i}", partial(read_mono, row["audio"])) for i, row in enumerate(rows)]
    order = np.random.default_rng(seed).permutation(len(clips))[:most]
    return [clips[i] for i in order]


def answers(classifier: AudioClassificationPipeline, clips: Sequence[Clip]) -> list[Prediction]:
    """What a model says of each clip by itself."""
    return list(predict(classifier, clips, batch_seconds=ALONE, progress=False))


def compare(expected: Sequence[Prediction], exported: AudioClassificationPipeline, clips: Sequence[Clip]) -> Comparison:
    """
    Compares an exported model with the answers of the model that it was made of.

    Args:
        expected (`Sequence[Prediction]`): The model's [`answers`].
        exported (`AudioClassificationPipeline`): The exported model, which must not take the clips of a batch one by one.
        clips (`Sequence[Clip]`): The same clips.

    Raises:
        ValueError: if none of the clips can be used.
    """
    usable = [i for i, prediction in enumerate(expected) if prediction.problem is None]
    if not usable:
        raise ValueError(f"none of the {len(expected)} clips can be used; the first: {expected[0].problem}")
    alone = answers(exported, clips)
    batch = list(predict(exported, clips, batch_seconds=BATCH, progress=False))
    return Comparison(
        clips=len(usable),
        seconds=sum(expected[i].duration for i in usable),
        alone=_difference([(expected[i], alone[i]) for i in usable]),
        batch=_difference([(expected[i], batch[i]) for i in usable]),
        equal=float(np.mean([expected[i].emotion == alone[i].emotion for i in usable])),
    )


def _difference(pairs: Sequence[tuple[Prediction, Prediction]]) -> float:
    differences = [
        abs(share - found.probabilities[emotion])
        for said, found in pairs
        for emotion, share in said.probabilities.items()
    ]
    # NaN is no small difference.
    return float(np.nan_to_num(np.max(differences), nan=np.inf))
