"""From corpora on disk to the clips of a run: read, prepared, selected, checked and split."""

import csv
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, DatasetInfo, Features, concatenate_datasets

from hf_ser import splits
from hf_ser.audio import SAMPLING_RATE, Augmentation, Segments, cut, prepare
from hf_ser.corpora import CorpusError, SetAside, corpus_of, read_corpora
from hf_ser.corpora.columns import Texts, Words, arrow_columns
from hf_ser.corpora.hub_stream import open_streams
from hf_ser.emotions import EmotionSelection
from hf_ser.features import SpeechDataset, longest_first
from hf_ser.splits import Clips, Split, SplitError
from hf_ser.streaming import WHOLE, Stream, StreamedSpeech
from hf_ser.training.arguments import DataArguments

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunClips:
    """
    The clips of a run.

    Args:
        clips (`datasets.Dataset`): Those that are used, with `audio`, `label` (ClassLabel), `speaker`, `gender`, `corpus`,
            `session`, `split`, `duration`, `samples_hash`, `clip` (its name) and the corpora's own columns.
        emotions (`tuple[str, ...]`): The emotions, in the order of the labels.
        split (`Split`): Their parts.
        table (`Clips`): What the split knows of them.
        set_aside (`list[SetAside]`): Those that cannot be used, and why.
        left_out (`dict[str, int]`): Clips of emotions that the run was not asked for.
        merged (`dict[str, str]`): Emotions counted as another.
        warnings (`list[str]`): What a reader of the run's figures must know.
        max_seconds (`float`, *optional*): Of longer clips only the beginning is used.
        stream (`Stream`, *optional*): Where the audio comes from if `clips` has none; they have `row` in its place, and
            `duration` is not known before [`heard`] has it.
    """

    clips: Dataset
    emotions: tuple[str, ...]
    split: Split
    table: Clips
    set_aside: list[SetAside]
    left_out: dict[str, int]
    merged: dict[str, str]
    warnings: list[str]
    max_seconds: float | None = None
    stream: Stream | None = None

    def segments(self, part: str, length: float | None, overlap: float) -> Segments:
        """The segments of a part's clips; see `hf_ser.audio.cut`."""
        rows = self.split.parts[part]
        if self.stream is not None and length is None:
            samples = np.full(len(rows), WHOLE)
        else:
            duration = arrow_columns(self.clips, ("duration",))["duration"].to_numpy().astype(np.float64)
            samples = np.rint(duration * SAMPLING_RATE).astype(np.int64)[rows]
        if self.max_seconds is not None:
            samples = np.minimum(samples, round(self.max_seconds * SAMPLING_RATE))
        pieces = cut(samples, length, overlap)
        return Segments(rows[pieces.clip], pieces.start, pieces.stop)

    def training_set(
        self, length: float | None, overlap: float, augmentation: Augmentation, seed: int, most: int | None = None
    ) -> SpeechDataset:
        """The segments that train; if there are more than `most`, so many of them, drawn at random."""
        segments = self.segments("train", length, overlap)
        if most is not None and len(segments) > most:
            some = np.sort(np.random.default_rng(seed).choice(len(segments), most, replace=False))
            segments = Segments(segments.clip[some], segments.start[some], segments.stop[some])
        if self.stream is not None:
            return StreamedSpeech(self.clips, segments, self.stream, augmentation, seed)
        return SpeechDataset(self.clips, segments, augmentation, seed)

    def evaluation_set(self, part: str, length: float | None, overlap: float) -> SpeechDataset:
        """The segments of a part for an evaluation: the longest first, or as they come from the Hub."""
        segments = self.segments(part, length, overlap)
        if self.stream is not None:
            return StreamedSpeech(self.clips, segments, self.stream)
        return SpeechDataset(self.clips, longest_first(segments))


def load_clips(arguments: DataArguments, minimum_samples: int) -> RunClips:
    """
    Reads, prepares, checks and splits the corpora of a run.

    Args:
        arguments (`DataArguments`): What to read and how to split it.
        minimum_samples (`int`): The shortest clip that the encoder can take, in samples at 16 kHz.

    Raises:
        CorpusError: if a corpus cannot be read, or too many of its clips cannot be used.
        SplitError: if the clips do not allow the split.
    """
    if arguments.max_seconds is not None and arguments.max_seconds * SAMPLING_RATE < minimum_samples:
        raise CorpusError(
            f"--max_seconds: {arguments.max_seconds:g} s are too few; the encoder needs {minimum_samples / SAMPLING_RATE:g} s"
        )
    EmotionSelection.parse(arguments.emotions)  # what is wrong there is said before hours of decoding
    if arguments.streaming:
        return stream_clips(arguments, minimum_samples)
    rows = prepare(read_corpora(arguments.corpora), workers=arguments.prepare_workers)
    return select_clips(rows, arguments, minimum_samples)


def require_heard_whole(clips: RunClips, arguments: DataArguments, maximum_samples: float) -> None:
    """
    Makes sure that the encoder takes all that a run would give it, before anything is trained.

    Args:
        clips (`RunClips`): The clips.
        arguments (`DataArguments`): How they are cut.
        maximum_samples (`float`): The longest clip that the encoder takes, in samples at 16 kHz.

    Raises:
        CorpusError: if a clip, or a segment of one, is longer, or might be in a stream that does not tell.
    """
    most = maximum_samples / SAMPLING_RATE
    seconds = arrow_columns(clips.clips, ("duration",))["duration"].to_numpy().astype(np.float64)
    for limit in (arguments.max_seconds, arguments.segment_length):
        if limit is not None:
            seconds = np.fmin(seconds, limit)  # of NaN and a limit the limit
    advice = f"cut clips into segments (--segment_length {most:g}), or take their beginning (--max_seconds {most:g})"
    if (long := seconds > most).any():
        longest = int(np.nanargmax(seconds))
        raise CorpusError(
            f"--model: the encoder hears {most:g} s at most, and {long.sum()} of {len(seconds)} clips would be longer, for "
            f"instance {clips.table.names[longest]} with {seconds[longest]:.1f} s; {advice}"
        )
    if not math.isinf(most) and np.isnan(seconds).any():
        raise CorpusError(
            f"--streaming: the encoder hears {most:g} s at most, and the data set has no column duration that says how long "
            f"its clips are; {advice}"
        )


def stream_clips(arguments: DataArguments, minimum_samples: int) -> RunClips:
    """
    Labels and splits clips on the Hub by what their tables say. No audio is fetched: which clips are broken, too short or
    there twice is not known yet. The first two are set aside when they are heard.

    Raises:
        CorpusError, SplitError: see [`load_clips`].
    """
    texts, audio = open_streams(arguments.corpora)
    duration = arrow_columns(texts, ("duration",))["duration"]
    if arguments.segment_length is not None and duration.null_count:
        raise CorpusError(
            f"--segment_length: {duration.null_count} of {len(texts)} clips do not say how long they are, and a stream cannot "
            "be cut without that. Add a column duration with seconds, use --max_seconds, or leave --streaming out."
        )
    unheard = {
        "duration": duration.fill_null(np.nan),
        "samples_hash": arrow_columns(texts, ("clip",))["clip"],
        "problem": pa.array([""]).take(pa.array(np.zeros(len(texts), dtype=np.int64))),
        "detail": pa.nulls(len(texts), pa.string()),
        "row": pa.array(np.arange(len(texts))),
    }
    rows = concatenate_datasets([texts.remove_columns("duration"), Dataset(pa.table(unheard))], axis=1)
    run = select_clips(rows, arguments, minimum_samples)
    stream = Stream(audio, minimum_samples, arguments.max_set_aside, arguments.shuffle_buffer)
    return replace(run, stream=stream)


def heard(clips: RunClips, gather: Callable[[torch.Tensor], torch.Tensor]) -> RunClips:
    """
    The clips of a run with what it has learned of them in streaming: their durations, 0 where none has come, and those that
    could not be used among `set_aside`.

    Args:
        clips (`RunClips`): The clips.
        gather (`Callable`): Puts the processes' tensors of shape `(1, n)` together to `(processes, n)`.
    """
    if clips.stream is None:
        return clips
    seconds = gather(clips.stream.seconds.nan_to_num(0)[None]).amax(dim=0)
    clips.stream.reason.copy_(gather(clips.stream.reason[None]).amax(dim=0))
    rows = clips.clips["row"][:]
    duration = Dataset(pa.table({"duration": seconds.cpu().numpy()[rows]}))
    told = concatenate_datasets([clips.clips.remove_columns("duration"), duration], axis=1)
    return replace(clips, clips=told, set_aside=[*clips.set_aside, *clips.stream.set_aside(clips.table.names, rows)])


def select_clips(rows: Dataset, arguments: DataArguments, minimum_samples: int) -> RunClips:
    """
    Checks, labels and splits prepared clips, see [`load_clips`].

    Args:
        rows (`datasets.Dataset`): What `hf_ser.audio.prepare` returns.
        arguments (`DataArguments`): Which emotions to keep, and how to split.
        minimum_samples (`int`): The shortest clip that the encoder can take, in samples at 16 kHz.

    Raises:
        CorpusError: if too many clips of a corpus cannot be used, or fewer than two emotions are left.
        SplitError: if the clips do not allow the split.
    """
    selection = EmotionSelection.parse(arguments.emotions)
    usable, set_aside = set_unusable_aside(rows, selection.knows, minimum_samples / SAMPLING_RATE)
    usable, copies = set_copies_aside(rows, usable)
    set_aside += copies
    report(rows, set_aside, arguments.max_set_aside)

    columns = arrow_columns(rows, ("clip", "emotion", "speaker", "gender", "corpus", "session", "split"))
    emotions = Words.of(columns["emotion"]).take(usable)
    meant = [selection.label(word) for word in emotions.words]
    left_out = {word: n for word, n in emotions.counts().items() if selection.label(word) is None}
    if left_out:
        logger.info("left out, as not asked for: %s", ", ".join(f"{n} {name}" for name, n in left_out.items()))
    counted = {selection.label(word) for word in emotions.counts()}
    present = [name for name in selection.names if name in counted]
    if len(present) < 2:
        raise CorpusError(f"--emotions: the corpora have clips of {present or 'none'} alone; at least two are needed")
    if arguments.emotions and (absent := sorted(set(selection.names) - set(present))):
        raise CorpusError(f"--emotions: the corpora have no clip of {', '.join(absent)}")

    # The label is put beside all rows, and rows are selected last: a column added to a selection would copy the audio.
    label_of = np.array([*(present.index(name) if name in present else -1 for name in meant), -1], dtype=np.int32)
    labels = label_of[emotions.codes]
    taken = np.array(usable, dtype=np.int64)[labels >= 0]
    label = np.full(len(rows), -1, dtype=np.int64)
    label[taken] = labels[labels >= 0]
    beside = Dataset(
        pa.table({"label": pa.array(label, mask=label < 0)}),
        info=DatasetInfo(features=Features({"label": ClassLabel(names=present)})),
    )
    # samples_hash stays: features of a frozen encoder are kept by it.
    rows = rows.remove_columns(["emotion", "copy_of", "problem", "detail"])
    kept = concatenate_datasets([rows, beside], axis=1).select(taken)
    told: dict[str, Any] = {
        name: Words.of(columns[name]).take(taken) for name in ("speaker", "gender", "corpus", "session", "split")
    }
    table = Clips(
        names=Texts(columns["clip"]).take(taken),
        labels=cast("Sequence[str]", Words(labels[labels >= 0], present)),
        speakers=told["speaker"],
        genders=told["gender"],
        corpora=told["corpus"],
        sessions=told["session"],
        official=told["split"],
    )
    split = make_split(table, arguments)
    warnings = splits.check(split, table, present)
    for warning in warnings:
        logger.warning("%s", warning)
    limit = arguments.max_seconds
    return RunClips(kept, tuple(present), split, table, set_aside, left_out, selection.merged, warnings, limit)


def make_split(clips: Clips, arguments: DataArguments) -> Split:
    """The split that the arguments ask for."""
    if arguments.splits:
        try:
            return splits.from_file(clips, Path(arguments.splits))
        except SplitError as error:
            raise SplitError(f"--splits: {error}") from error
    shares = {
        "seed": arguments.split_seed,
        "test_share": arguments.test_share,
        "validation_share": arguments.validation_share,
    }
    settings: dict[str, dict[str, Any]] = {
        "random": shares,
        "speaker": shares,
        "kfold": {"fold": arguments.fold, "folds": arguments.folds, "by": arguments.fold_by},
        "official": {},
    }
    return splits.SPLITS[arguments.split](clips, **settings[arguments.split])


def set_unusable_aside(rows: Dataset, knows: Callable[[str], bool], minimum: float) -> tuple[list[int], list[SetAside]]:
    """
    Tells the clips that can be used (their indices) from those that cannot: unreadable, empty, silent, not finite, shorter
    than `minimum` seconds, of an emotion that `knows` does not, or another copy of a clip by its name.
    """
    usable: list[int] = []
    aside: list[SetAside] = []
    names, emotions = rows["clip"][:], rows["emotion"][:]
    columns = (rows[name][:] for name in ("copy_of", "problem", "detail", "duration"))
    for i, (copy_of, problem, detail, duration) in enumerate(zip(*columns, strict=True)):
        if copy_of:
            aside.append(SetAside(names[i], "duplicate", f"another copy of {copy_of}"))
        elif problem:
            aside.append(SetAside(names[i], problem, detail))
        elif duration < minimum:
            aside.append(SetAside(names[i], "too short", f"{duration:.4f} s; the encoder needs {minimum:.4f} s"))
        elif not knows(emotions[i]):
            told = f"{emotions[i]!r}; name it in --emotions to use it" if emotions[i] else "none is given"
            aside.append(SetAside(names[i], "unknown emotion", told))
        else:
            usable.append(i)
    return usable, aside


def set_copies_aside(rows: Dataset, usable: Sequence[int]) -> tuple[list[int], list[SetAside]]:
    """Of the clips `usable` those (their indices) that have not the very samples of an earlier one, and the others."""
    kept: list[int] = []
    aside: list[SetAside] = []
    first_with: dict[str, int] = {}
    names, emotions, samples = (rows[name][:] for name in ("clip", "emotion", "samples_hash"))
    for i in usable:
        if (other := first_with.setdefault(samples[i], i)) == i:
            kept.append(i)
        else:
            label = "" if emotions[i] == emotions[other] else f", though {emotions[i]} and that one {emotions[other]}"
            aside.append(SetAside(names[i], "duplicate", f"the same audio as {names[other]}{label}"))
    return kept, aside


def report(rows: Dataset, set_aside: Sequence[SetAside], limit: float) -> None:
    """
    Logs how many clips were set aside and why.

    Raises:
        CorpusError: if more than `limit` of a corpus' clips cannot be used. Copies of other clips do not count.
    """
    sizes = Counter(rows["corpus"][:])
    by_corpus: dict[str, list[SetAside]] = {}
    for clip in set_aside:
        by_corpus.setdefault(corpus_of(clip.clip, sizes), []).append(clip)
    for corpus, mine in by_corpus.items():
        size = sizes[corpus]
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(clip.reason for clip in mine).most_common())
        logger.warning("%s: %d of %d clips are set aside: %s", corpus, len(mine), size, reasons)
        bad = [clip for clip in mine if clip.reason != "duplicate"]
        if len(bad) > limit * size:
            examples = "\n".join(f"  {clip}" for clip in bad[:5])
            raise CorpusError(
                f"{corpus}: {len(bad)} of {size} clips cannot be used, more than --max_set_aside {limit:g} allows. "
                f"For instance:\n{examples}"
            )


def write_set_aside(set_aside: Sequence[SetAside], path: Path) -> None:
    """Writes the clips that were set aside as CSV: clip, reason, detail."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "reason", "detail"))
        writer.writerows((clip.clip, clip.reason, clip.detail) for clip in set_aside)
