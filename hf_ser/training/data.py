"""The clips of a run, by its arguments: read, split and cut into segments."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PretrainedConfig

from hf_ser import splits
from hf_ser.audio import SAMPLING_RATE, Augmentation, Segments, cut
from hf_ser.clips import labelled, load_corpora, names_of, seconds_of
from hf_ser.corpora import CorpusError
from hf_ser.corpora.columns import arrow_column
from hf_ser.corpora.hub_dataset import open_streams
from hf_ser.emotions import EmotionSelection, parse_targets
from hf_ser.modeling import families
from hf_ser.modeling.load import load_config, resolve_checkpoint
from hf_ser.splits import SplitError
from hf_ser.training.arguments import Arguments, ScriptArguments
from hf_ser.training.config import SERConfig
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.streaming import WHOLE, Stream, StreamedSpeech


def load_parts(arguments: Arguments) -> DatasetDict:
    """The parts of a run's clips, of those that its encoder takes; see [`load_splits`]."""
    config = load_config(resolve_checkpoint(arguments.script.model_name_or_path))
    return load_splits(arguments.script, families.minimum_samples(config), arguments.training.targets)


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
        clips = stream_corpora(script, minimum_samples, targets)
    else:
        reading = _reading(script, minimum_samples)
        clips = load_corpora(
            script.corpora, script.emotions, targets=targets, workers=script.prepare_workers, **reading
        )
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
    Labels clips on the Hub from their tables, without fetching audio. Broken and too short clips are excluded when they are
    fetched; duplicates are not found.

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


def segments_of(clips: Dataset, args: SERConfig) -> Segments:
    """The segments that clips are cut into; see `hf_ser.audio.cut`."""
    if clips.info.stream and args.segment_length is None:
        samples = np.full(len(clips), WHOLE)
    else:
        samples = np.rint(seconds_of(clips) * SAMPLING_RATE).astype(np.int64)
    if args.max_seconds is not None:
        samples = np.minimum(samples, round(args.max_seconds * SAMPLING_RATE))
    return cut(samples, args.segment_length, args.segment_overlap)


def speech_of(clips: Dataset, segments: Segments, **options: Any) -> SpeechDataset:
    """Segments of clips, from the disk or from the Hub; the options are those of [`~hf_ser.training.dataset.SpeechDataset`]."""
    kind = StreamedSpeech if clips.info.stream else SpeechDataset
    return kind(clips, segments, **options)


def require_length(clips: Dataset, args: SERConfig, config: PretrainedConfig) -> None:
    """
    Makes sure that the encoder takes all of each clip, before anything is trained.

    Raises:
        CorpusError: if a clip, or a segment of one, is longer, or its length is unknown.
    """
    least, most = (
        samples / SAMPLING_RATE for samples in (families.minimum_samples(config), families.maximum_samples(config))
    )
    if args.max_seconds is not None and args.max_seconds < least:
        raise CorpusError(f"max_seconds={args.max_seconds:g}: the encoder needs {least:g} s at least")
    seconds = seconds_of(clips)
    if args.segment_length is not None and np.isnan(seconds).any():
        raise CorpusError(
            f"segment_length: {int(np.isnan(seconds).sum())} of {len(clips)} clips have no length in a column duration, and a "
            "stream cannot be cut without it. Add that column, use max_seconds, or do not stream."
        )
    for limit in (args.max_seconds, args.segment_length):
        if limit is not None:
            seconds = np.fmin(seconds, limit)  # of NaN and a limit the limit
    advice = f"cut clips into segments (segment_length {most:g}), or take their beginning (max_seconds {most:g})"
    if (long := seconds > most).any():
        longest = int(np.nanargmax(seconds))
        raise CorpusError(
            f"the encoder takes {most:g} s at most, and {long.sum()} of {len(seconds)} clips are longer, for instance "
            f"{names_of(clips)[longest]} with {seconds[longest]:.1f} s; {advice}"
        )
    if not math.isinf(most) and np.isnan(seconds).any():
        raise CorpusError(f"the encoder takes {most:g} s at most, and the length of some clips is unknown; {advice}")


def require_compatible(args: SERConfig, augmentation: Augmentation, train: Dataset) -> None:
    """
    Raises:
        ValueError: if arguments exclude each other.
    """
    if args.focal_gamma and augmentation.mixup_alpha:
        raise ValueError(
            "focal_gamma: needs one true emotion for each clip, and mixup_alpha gives it two; use one of them"
        )
    if args.balance == "sampling" and train.info.stream:
        raise ValueError(
            "balance='sampling': draws any clip at any time, and streaming reads each once in an epoch; use weights or logits"
        )
