"""The clips that the arguments of a script name, split as they say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets

from hf_ser import splits
from hf_ser.audio import SAMPLING_RATE
from hf_ser.clips import labelled, load_corpora, seconds_of
from hf_ser.corpora.columns import arrow_column
from hf_ser.corpora.hub_stream import open_streams
from hf_ser.emotions import EmotionSelection, parse_targets
from hf_ser.splits import SplitError
from hf_ser.streaming import Stream
from hf_ser.training.arguments import ScriptArguments


def load_splits(script: ScriptArguments, minimum_samples: int, targets: Sequence[str] = ("emotion",)) -> DatasetDict:
    """
    Reads, checks and splits the corpora of a run.

    Args:
        script (`ScriptArguments`): What to read and how to split it.
        minimum_samples (`int`): The shortest clip that the encoder takes, in samples at 16 kHz.
        targets (`Sequence[str]`, defaults to `("emotion",)`): What to read clips for, see `hf_ser.load_corpora`.

    Raises:
        CorpusError: if a corpus cannot be read, or too many of its clips cannot be used.
        SplitError: if the clips do not allow the split.
    """
    if script.streaming:
        return make_splits(stream_corpora(script, minimum_samples, targets), script)
    reading = _reading(script, minimum_samples)
    clips = load_corpora(script.corpora, script.emotions, targets=targets, workers=script.prepare_workers, **reading)
    return make_splits(clips, script)


def _reading(script: ScriptArguments, minimum_samples: int) -> dict[str, Any]:
    names = ("minimum_raters", "vote_smoothing", "dimension_range", "max_excluded")
    return {**{name: getattr(script, name) for name in names}, "minimum_seconds": minimum_samples / SAMPLING_RATE}


def make_splits(clips: Dataset, script: ScriptArguments) -> DatasetDict:
    """The split that the arguments ask for."""
    sizes: dict[str, Any] = {
        "test_size": script.test_size,
        "validation_size": script.validation_size,
        "seed": script.split_seed,
    }
    if script.splits:
        return splits.read_splits(clips, Path(script.splits))
    if script.split == "official":
        return splits.official_split(clips, script.fold)
    if script.split == "cross_corpus":
        return splits.cross_corpus_split(clips, script.train_corpora, **sizes)
    if script.split == "kfold":
        folds = splits.speaker_folds(clips, script.folds, script.fold_by)
        if not 0 <= script.fold < len(folds):
            raise SplitError(f"fold: expected 0 to {len(folds) - 1}, found {script.fold}")
        return folds[script.fold]
    return splits.train_test_split(clips, script.split, **sizes)


def stream_corpora(script: ScriptArguments, minimum_samples: int, targets: Sequence[str] = ("emotion",)) -> Dataset:
    """
    Labels clips on the Hub by what their tables say. No audio is fetched: which clips are broken, too short or there twice is not
    known yet. The first two are excluded when they come.

    Raises:
        CorpusError: see [`load_splits`].
    """
    selection = EmotionSelection.parse(script.emotions)
    texts, audio = open_streams(script.corpora)
    unknown = {
        "duration": pa.array(seconds_of(texts)),
        "samples_hash": arrow_column(texts, "clip"),
        "problem": pa.array([""]).take(pa.array(np.zeros(len(texts), dtype=np.int64))),
        "detail": pa.nulls(len(texts), pa.string()),
        "row": pa.array(np.arange(len(texts))),
    }
    rows = concatenate_datasets([texts.remove_columns("duration"), Dataset(pa.table(unknown))], axis=1)
    clips = labelled(
        rows,
        selection,
        targets=list(parse_targets(targets)),
        corpora=audio.sources,
        **_reading(script, minimum_samples),
    )
    clips.info.stream = Stream(audio, minimum_samples, script.max_excluded, script.shuffle_buffer)
    return clips
