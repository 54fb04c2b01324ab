"""One dataset of clips: from corpora on disk, or from any `datasets.Dataset`."""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, concatenate_datasets

from hf_ser.audio import prepare
from hf_ser.corpora import CorpusError, Excluded, corpus_of, hub_dataset, read_corpora, source_of
from hf_ser.corpora.columns import Words, arrow_column
from hf_ser.corpora.manifest import find_column
from hf_ser.corpora.rows import RATED_COLUMNS
from hf_ser.emotions import (
    DIMENSIONS,
    DISTRIBUTION,
    EMOTION,
    EMOTIONS,
    EmotionSelection,
    canonical,
    parse_targets,
    require_range,
)
from hf_ser.targets import Ranges, agreement, check_targets, emotions_of, labels_of, optional, shares_of, truth_of
from hf_ser.wording import listed

logger = logging.getLogger(__name__)

#: The shortest clip that is taken unless an encoder needs more: the first convolution of HuBERT and its like, 400 samples.
MINIMUM_SECONDS = 0.025


@dataclass
class ClipsInfo(DatasetInfo):
    """
    What is known about clips beside their columns. Selections of the clips and the parts of a split keep it.

    Args:
        excluded (`list[Excluded]`): Clips that cannot be used, each with the reason.
        left_out (`dict[str, int]`): The number of clips of each emotion that was not selected.
        merged (`dict[str, str]`): Emotions that count as another.
        sources (`dict[str, dict]`): For each corpus how it was read (`read_as`) and its name on the Hub (`hub_dataset`).
        targets (`list[str]`): The targets that were read, some of `hf_ser.emotions.TARGETS`. Each clip has at least one of them.
        ranges (`dict[str, dict[str, list[float]]]`): For each corpus the lowest and highest value of each dimension in its own
            scale. They are 0 and 1 in the clips' columns.
        agreement (`dict[str, dict[str, dict]]`): How far the raters of each corpus agree, see `hf_ser.targets.agreement`.
        split (`dict`): For a part of a split: the split's `name` and settings.
        left_out_by_split (`dict[str, int]`): For a part of a split: the number of clips of each corpus that are in no part.
        stream (`Stream`, *optional*): The source of the audio of streamed clips, which have a column `row` in place of `audio`.
    """

    excluded: list[Excluded] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    targets: list[str] = field(default_factory=lambda: ["emotion"])
    ranges: dict[str, Ranges] = field(default_factory=dict)
    agreement: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    left_out_by_split: dict[str, int] = field(default_factory=dict)
    stream: Any = None


def load_corpora(
    corpora: Mapping[str, str | Path] | Sequence[str],
    emotions: Sequence[str] = (),
    *,
    targets: Sequence[str] = ("emotion",),
    minimum_raters: int = 1,
    vote_smoothing: float = 0.0,
    dimension_range: Sequence[float] | None = None,
    max_excluded: float = 0.05,
    minimum_seconds: float = MINIMUM_SECONDS,
    workers: int | None = None,
) -> Dataset:
    """
    Reads corpora. Each clip is decoded to 16 kHz mono once and kept in the cache (`HF_SER_CACHE`, by default `~/.cache/hf_ser`).

    Args:
        corpora (`dict` or `Sequence[str]`): `{"ravdess": "/data/RAVDESS"}` or `["ravdess=/data/RAVDESS"]`; see
            `hf_ser.corpora.read`.
        emotions (`Sequence[str]`, *optional*): Emotions to keep, and merges: `["neutral", "happy", "calm=neutral"]`. By default
            all eight of HuBERT-SER.
        targets (`Sequence[str]`, defaults to `("emotion",)`): The labels to read: some of `emotion`, `emotion_distribution`,
            `arousal`, `valence` and `dominance`. A clip is kept if it has one of them.
        minimum_raters (`int`, defaults to 1): A clip has an `emotion_distribution` if this many raters named one of the emotions.
        vote_smoothing (`float`, defaults to 0): Added to the votes for each emotion before they become shares.
        dimension_range (`Sequence[float]`, *optional*): The lowest and highest arousal, valence and dominance in manifests and
            data sets, by default 0 and 1. Corpora have their own scales.
        max_excluded (`float`, defaults to 0.05): The share of a corpus' clips that may be unusable, copies not counted.
        minimum_seconds (`float`, defaults to 0.025): Shorter clips are excluded.
        workers (`int`, *optional*): Processes that decode, by default one for each processor.

    Returns:
        Clips with `audio` (undecoded bytes of a 16 kHz WAV), `label` (ClassLabel), `speaker`, `gender`, `corpus`, `session`,
        `split`, `duration` in seconds, `clip` (the name), and the corpora's own columns. `.info.excluded` has the clips that
        cannot be used. `label` is none for a clip that has another target and none of the emotions. Where the corpora have
        them: `arousal`, `valence` and `dominance` from 0 to 1, `votes` (a word for each rater), and if it is a target
        `emotion_distribution`, the share of the votes for each emotion.

    Raises:
        CorpusError: if a corpus cannot be read, more of it than `max_excluded` is unusable, fewer than two emotions are left, no
            clip has one of the targets, or a dimension is outside its range.
    """
    selection = EmotionSelection.parse(emotions)  # its errors come before hours of decoding
    targets = list(parse_targets(targets))
    require_range(dimension_range)
    names = [f"{name}={path}" for name, path in corpora.items()] if isinstance(corpora, Mapping) else list(corpora)
    corpora = read_corpora(names)
    return labelled(
        prepare(corpora, workers=workers),
        selection,
        targets=targets,
        corpora={rows[0]["corpus"]: rows.info.dataset_name for rows in corpora},
        minimum_raters=minimum_raters,
        vote_smoothing=vote_smoothing,
        dimension_range=dimension_range,
        max_excluded=max_excluded,
        minimum_seconds=minimum_seconds,
    )


def as_clips(dataset: Dataset) -> Dataset:
    """
    The clips of any dataset, with the columns that [`load_corpora`] returns. Clips that it returned are not changed.

    Args:
        dataset (`datasets.Dataset`): With a column of type `Audio` and one called `label` or `emotion`, a ClassLabel or text.
            Columns `speaker`, `gender`, `session` and `split` are kept if they exist, as are `arousal`, `valence` and
            `dominance` from 0 to 1, `votes`, and `emotion_distribution`. A dataset with a dimension may lack the emotion.

    Raises:
        CorpusError: if it is no `Dataset` or empty, a column is missing, a dimension is outside 0 to 1, a distribution does not
            add up to 1, or too many clips are unusable.
    """
    if not isinstance(dataset, Dataset):
        raise CorpusError(f"found a {type(dataset).__name__}, expected a datasets.Dataset: one part of the clips")
    if isinstance(dataset.info, ClipsInfo):
        return dataset
    if not len(dataset):
        raise CorpusError("found a datasets.Dataset without rows, expected clips")
    part = str(dataset.split or "part")
    rows = hub_dataset.rows_of(dataset, dataset.info.dataset_name or hub_dataset.NAME, part, "the dataset")
    words = {word for word in column(rows, "emotion").counts() if word}
    name = find_column(dataset.column_names, "emotion")
    label = dataset.features[name] if name else None
    known = tuple(sorted(words))
    if isinstance(label, ClassLabel):
        known = tuple(map(canonical, label.names))
        if len(set(known)) < len(known):
            raise CorpusError(
                f"{name}: found {listed(label.names)}, of which several name the same emotion; expected one name"
            )
    targets = [name for name in DIMENSIONS if name in dataset.column_names and name in rows.column_names]
    targets += ["emotion"] * bool(words)
    if "emotion_distribution" in dataset.column_names:
        targets.append("emotion_distribution")
        rows = concatenate_datasets([rows, dataset.select_columns(["emotion_distribution"])], axis=1)
    rows = prepare([rows])
    # `datasets.Dataset.train_test_split` gives both parts the name of the whole.
    names = [f"{name}-{samples[:8]}" for name, samples in zip(rows["clip"][:], rows["samples_hash"][:], strict=True)]
    rows = rows.remove_columns("clip").add_column("clip", pa.array(names))
    return labelled(rows, EmotionSelection(known, {}, chosen=True), targets=targets, keep_all=True)


def numbered_as(clips: Dataset, emotions: Sequence[str]) -> Dataset:
    """
    The same clips with their labels in the order of `emotions`.

    Raises:
        CorpusError: if a clip has another emotion, or shares of votes in another order.
    """
    own = emotions_of(clips)
    if own == tuple(emotions):
        return clips
    if unknown := sorted({*emotion_column(clips).counts()} - {*emotions}):
        raise CorpusError(
            f"label: found clips of {listed(unknown)}, expected emotions of the model alone: {listed(emotions)}"
        )
    if DISTRIBUTION in clips.column_names:
        raise CorpusError(
            f"{DISTRIBUTION}: found shares of {listed(own)}, expected the model's order: {listed(emotions)}"
        )
    # For all rows of the table: a column that is added to a selection would copy the audio.
    table = Dataset(clips.data, info=clips.info)
    labels = emotion_column(table).places(emotions)
    numbers = pa.array(labels, mask=labels < 0)
    table = table.remove_columns("label").add_column("label", numbers, feature=ClassLabel(names=list(emotions)))
    return Dataset(table.data, info=table.info, indices_table=clips._indices)


def without_audio(rows: Dataset) -> Dataset:
    """A corpus' clips as its files or tables describe them, for splits that need no audio: nothing is decoded or checked."""
    rows = rows.remove_columns("audio").rename_column("emotion", "label")
    rows = rows.cast_column("label", ClassLabel(names=sorted(set(rows["label"]))))
    return Dataset(rows.flatten_indices().data, info=ClipsInfo(features=rows.features))


def labelled(
    rows: Dataset,
    selection: EmotionSelection,
    *,
    targets: Sequence[str] = (EMOTION,),
    corpora: Mapping[str, str] | None = None,
    max_excluded: float = 0.05,
    minimum_seconds: float = MINIMUM_SECONDS,
    keep_all: bool = False,
    **rating: Any,
) -> Dataset:
    """
    Checks and labels prepared clips, see [`load_corpora`].

    Args:
        rows (`datasets.Dataset`): What `hf_ser.audio.prepare` returns.
        selection (`EmotionSelection`): Which emotions to keep.
        targets, max_excluded, minimum_seconds: See [`load_corpora`].
        corpora (`dict[str, str]`, *optional*): The `NAME=PATH` that each corpus is read from.
        keep_all (`bool`, defaults to `False`): Emotions without clips keep their numbers: a part of the clips may lack some.
        **rating: `minimum_raters`, `vote_smoothing` and `dimension_range`, see [`load_corpora`].

    Raises:
        CorpusError: see [`load_corpora`].
    """
    corpora = corpora or {}
    truth = truth_of(rows, selection, targets, corpora, **rating)
    labels, values, votes = truth.labels, truth.values, truth.votes
    rated = truth.has({*targets} - {EMOTION})
    if votes is not None and DISTRIBUTION in targets:
        rated |= votes.chosen.any(axis=1)  # too few raters for a distribution: left out, but no error
    usable, excluded = exclude_unusable(rows, selection.knows, minimum_seconds, rated)
    usable, copies = exclude_copies(rows, usable)
    excluded += copies
    require_few_excluded(rows, excluded, max_excluded)

    counts = np.bincount(labels[usable][labels[usable] >= 0], minlength=len(selection.names)).astype(float)
    if EMOTION not in targets and votes is not None:  # else a class of the model would have no clip
        counts += votes.counts[usable].sum(axis=0)
    present = list(selection.names or EMOTIONS)
    if not keep_all and not {EMOTION, DISTRIBUTION}.isdisjoint(targets):
        present = [name for name, count in zip(selection.names, counts, strict=True) if count > 0]
        if len(present) < 2:
            raise CorpusError(f"emotions: found clips of {present or 'none'} alone, expected two emotions at least")
        if selection.chosen and (absent := sorted({*selection.names} - {*present})):
            raise CorpusError(f"emotions: the corpora have no clip of {', '.join(absent)}")
    if DISTRIBUTION in values and len(present) < len(selection.names):
        values[DISTRIBUTION] = shares_of(values[DISTRIBUTION], selection.names, present)
    labels = Words(labels, selection.names).places(present)

    taken = np.array(usable, dtype=np.int64)[truth.has(targets)[usable]]
    left_out = column(rows, "emotion").take(np.setdiff1d(usable, taken)).counts()
    left_out = {word or "none": n for word, n in left_out.items()}
    if left_out:
        logger.info("left out, as not asked for: %s", ", ".join(f"{n} {name}" for name, n in left_out.items()))
    if not keep_all:
        check_targets({name: of_clips[taken] for name, of_clips in values.items()}, targets)
        if DISTRIBUTION in targets and votes is not None and votes.raters[taken].max() == 1:
            logger.warning("emotion_distribution: no clip has votes of two raters, so that each is one emotion alone")
    together = with_truth(rows, taken, labels, present, values)
    info = ClipsInfo(
        features=together.features,
        excluded=excluded,
        left_out=left_out,
        merged=selection.merged,
        sources={corpus: source_of(specification) for corpus, specification in corpora.items()},
        targets=list(targets),
        ranges={
            corpus: {name: scale for name, scale in truth.ranges[corpus].items() if name in values}
            for corpus in column(rows, "corpus").take(taken).counts()
            if corpus in truth.ranges
        },
        agreement=agreement(rows, taken, votes),
    )
    return Dataset(together.data, info=info).select(taken)


def with_truth(
    rows: Dataset,
    taken: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    emotions: Sequence[str],
    values: Mapping[str, npt.NDArray[np.float64]],
) -> Dataset:
    """
    Adds the column `label` of the rows `taken` (none where it is -1) and a column for each of `values`, and removes the columns
    that they are made of. Rows are selected afterwards: adding a column to a selection would copy the audio.
    """
    label = np.full(len(rows), -1, dtype=np.int64)
    label[taken] = labels[taken]
    columns = {name: optional(found) for name, found in values.items()}
    table = pa.table({"label": pa.array(label, mask=label < 0), **columns})
    features = Features({**Features.from_arrow_schema(table.schema), "label": ClassLabel(names=list(emotions))})
    # samples_hash stays: features of a frozen encoder are kept by it.
    used = {"emotion", "copy_of", "problem", "detail", DISTRIBUTION, *RATED_COLUMNS} - {"votes"}
    rows = rows.remove_columns([name for name in rows.column_names if name in used])
    return concatenate_datasets([rows, Dataset(table, info=DatasetInfo(features=features))], axis=1)


def column(clips: Dataset, name: str) -> Words:
    """A column of words such as `speaker`, one for each clip; none for a clip without one, or without the column."""
    if name not in clips.column_names:
        return Words(np.full(len(clips), -1, dtype=np.int32), ())
    return Words.of(arrow_column(clips, name))


def emotion_column(clips: Dataset) -> Words:
    """The emotion of each clip, none where a clip has none of the run's."""
    return Words(labels_of(clips), emotions_of(clips))


def names_of(clips: Dataset) -> list[str]:
    """The name of each clip, the same on every machine."""
    return clips["clip"][:]


def seconds_of(clips: Dataset) -> npt.NDArray[np.float64]:
    """The length of each clip in seconds, NaN where it is not known yet."""
    seconds = arrow_column(clips, "duration").to_numpy(zero_copy_only=False).astype(np.float64)
    stream = getattr(clips.info, "stream", None)
    return seconds if stream is None else np.fmax(seconds, stream.seconds.numpy()[clips["row"][:]])


def excluded_of(parts: Mapping[str, Dataset]) -> list[Excluded]:
    """The clips that cannot be used: those known when the corpora were read, and in streaming those found since."""
    found = list(dict.fromkeys(clip for clips in parts.values() for clip in clips.info.excluded))
    for clips in parts.values():
        if clips.info.stream:
            found += clips.info.stream.excluded(names_of(clips), clips["row"][:])
    return found


def exclude_unusable(
    rows: Dataset, knows: Callable[[str], bool], minimum_seconds: float, wanted: npt.NDArray[np.bool_]
) -> tuple[list[int], list[Excluded]]:
    """
    Separates the usable clips (their indices) from those that have a `problem`, are shorter than `minimum_seconds`, are another
    copy of a clip by its name, or have an emotion that `knows` rejects and are not `wanted` for another target.
    """
    usable: list[int] = []
    excluded: list[Excluded] = []
    names, emotions = rows["clip"][:], rows["emotion"][:]
    columns = (rows[name][:] for name in ("copy_of", "problem", "detail", "duration"))
    for i, (copy_of, problem, detail, duration) in enumerate(zip(*columns, strict=True)):
        if copy_of:
            excluded.append(Excluded(names[i], "duplicate", f"another copy of {copy_of}"))
        elif problem:
            excluded.append(Excluded(names[i], problem, detail))
        elif duration < minimum_seconds:
            excluded.append(
                Excluded(names[i], "too short", f"{duration:.4f} s; expected at least {minimum_seconds:.4f} s")
            )
        elif not (knows(emotions[i]) or wanted[i]):
            found = f"{emotions[i]!r}; name it in emotions to use it" if emotions[i] else "none is given"
            excluded.append(Excluded(names[i], "unknown emotion", found))
        else:
            usable.append(i)
    return usable, excluded


def exclude_copies(rows: Dataset, usable: Sequence[int]) -> tuple[list[int], list[Excluded]]:
    """Separates the clips `usable` (their indices) into those with samples of their own and copies of an earlier one."""
    kept: list[int] = []
    excluded: list[Excluded] = []
    first_with: dict[str, int] = {}
    names, emotions, samples = (rows[name][:] for name in ("clip", "emotion", "samples_hash"))
    for i in usable:
        if (other := first_with.setdefault(samples[i], i)) == i:
            kept.append(i)
        else:
            label = "" if emotions[i] == emotions[other] else f", though {emotions[i]} and that one {emotions[other]}"
            excluded.append(Excluded(names[i], "duplicate", f"the same audio as {names[other]}{label}"))
    return kept, excluded


def require_few_excluded(rows: Dataset, excluded: Sequence[Excluded], limit: float) -> None:
    """
    Logs how many clips are excluded and why.

    Raises:
        CorpusError: if more than the share `limit` of a corpus' clips cannot be used. Copies of other clips do not count.
    """
    sizes = Counter(rows["corpus"][:])
    by_corpus: dict[str, list[Excluded]] = {}
    for clip in excluded:
        by_corpus.setdefault(corpus_of(clip.clip, sizes), []).append(clip)
    for corpus, mine in by_corpus.items():
        size = sizes[corpus]
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(clip.reason for clip in mine).most_common())
        logger.warning("%s: %d of %d clips are excluded: %s", corpus, len(mine), size, reasons)
        bad = [clip for clip in mine if clip.reason != "duplicate"]
        if len(bad) > limit * size:
            examples = "\n".join(f"  {clip}" for clip in bad[:5])
            raise CorpusError(
                f"{corpus}: {len(bad)} of {size} clips cannot be used, more than max_excluded={limit:g} allows. "
                f"For instance:\n{examples}"
            )


def write_excluded(excluded: Sequence[Excluded], path: Path) -> None:
    """Writes the excluded clips as CSV: clip, reason, detail."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "reason", "detail"))
        writer.writerows((clip.clip, clip.reason, clip.detail) for clip in excluded)
