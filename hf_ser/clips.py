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
from hf_ser.corpora import CORPORA, CorpusError, Excluded, corpus_of, emobox, known_as, read_corpora
from hf_ser.corpora.columns import Texts, Words, arrow_columns
from hf_ser.corpora.hub_dataset import NAME as HUB_DATASET
from hf_ser.corpora.hub_dataset import rows_of
from hf_ser.corpora.manifest import NAME as MANIFEST
from hf_ser.emotions import EmotionSelection

logger = logging.getLogger(__name__)

#: The shortest clip that is taken unless an encoder needs more: the first convolution of HuBERT and its like, 400 samples.
MINIMUM_SECONDS = 0.025


@dataclass
class ClipsInfo(DatasetInfo):
    """
    What is known of clips beyond their columns. It stays with a selection of them and with the parts of a split.

    Args:
        excluded (`list[Excluded]`): Clips that cannot be used, each with the reason.
        left_out (`dict[str, int]`): The number of clips of each emotion that was not asked for.
        merged (`dict[str, str]`): Emotions that count as another.
        sources (`dict[str, dict]`): For each corpus how it was read (`read_as`) and its name on the Hub (`hub_dataset`).
        split (`dict`): Of a part of a split: the split's `name`, and what it was made with.
        left_out_by_split (`dict[str, int]`): Of a part of a split: for each corpus the clips that are in no part.
        stream (`Stream`, *optional*): Where the audio comes from if the clips have none; they have a column `row` in its place.
    """

    excluded: list[Excluded] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    left_out_by_split: dict[str, int] = field(default_factory=dict)
    stream: Any = None


def load_corpora(
    corpora: Mapping[str, str | Path] | Sequence[str],
    emotions: Sequence[str] = (),
    *,
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
        max_excluded (`float`, defaults to 0.05): The share of a corpus' clips that may be unusable, copies not counted.
        minimum_seconds (`float`, defaults to 0.025): Shorter clips are excluded.
        workers (`int`, *optional*): Processes that decode, by default one for each processor.

    Returns:
        Clips with `audio` (undecoded bytes of a 16 kHz WAV), `label` (ClassLabel), `speaker`, `gender`, `corpus`, `session`,
        `split`, `duration` in seconds, `clip` (the name), and the corpora's own columns. `.info.excluded` has the clips that
        cannot be used.

    Raises:
        CorpusError: if a corpus cannot be read, more of it than `max_excluded` is unusable, or fewer than two emotions are left.
    """
    selection = EmotionSelection.parse(emotions)  # what is wrong there is reported before hours of decoding
    names = [f"{name}={path}" for name, path in corpora.items()] if isinstance(corpora, Mapping) else list(corpora)
    corpora = read_corpora(names)
    sources = {rows[0]["corpus"]: source_of(rows.info.dataset_name) for rows in corpora}
    rows = prepare(corpora, workers=workers)
    return labelled(rows, selection, max_excluded=max_excluded, minimum_seconds=minimum_seconds, sources=sources)


def as_clips(dataset: Dataset) -> Dataset:
    """
    The clips of any dataset, with the columns that [`load_corpora`] returns; those that it returned are left alone.

    Args:
        dataset (`datasets.Dataset`): With a column of type `Audio` and one called `label` or `emotion`, a ClassLabel or text.
            Columns `speaker`, `gender`, `session` and `split` are taken over where they are there.

    Raises:
        CorpusError: if a column is missing, or too many clips are unusable.
    """
    if isinstance(dataset.info, ClipsInfo):
        return dataset
    part = str(dataset.split or dataset._fingerprint[:6])
    rows = rows_of(dataset, dataset.info.dataset_name or HUB_DATASET, part, "the dataset")
    words = Words.of(rows["emotion"][:]).counts()
    label = dataset.features.get("label")
    known = tuple(label.names) if isinstance(label, ClassLabel) else tuple(sorted(words))
    selection = EmotionSelection(known, {}, chosen=True)
    return labelled(prepare([rows]), selection, keep_all=True)


def without_audio(rows: Dataset) -> Dataset:
    """A corpus' clips as its files or tables describe them, for splits that need no audio: nothing is decoded or checked."""
    rows = rows.remove_columns("audio").rename_column("emotion", "label")
    rows = rows.cast_column("label", ClassLabel(names=sorted(set(rows["label"]))))
    return Dataset(rows.flatten_indices().data, info=ClipsInfo(features=rows.features))


def source_of(specification: str) -> dict[str, str]:
    """How the corpus of `NAME=PATH` is read, see [`ClipsInfo`]."""
    kind, _, path = specification.partition("=")
    if kind in CORPORA:
        return {"read_as": kind}
    if kind == HUB_DATASET:
        name = path.partition(":")[0]
        return {"read_as": HUB_DATASET, **({} if Path(name).expanduser().exists() else {"hub_dataset": name})}
    if kind == emobox.NAME and (corpus := known_as(Path(path).name)) in CORPORA:
        return {"read_as": corpus}
    return {"read_as": MANIFEST}


def labelled(
    rows: Dataset,
    selection: EmotionSelection,
    *,
    max_excluded: float = 0.05,
    minimum_seconds: float = MINIMUM_SECONDS,
    sources: Mapping[str, dict[str, str]] | None = None,
    keep_all: bool = False,
) -> Dataset:
    """
    Checks and labels prepared clips, see [`load_corpora`].

    Args:
        rows (`datasets.Dataset`): What `hf_ser.audio.prepare` returns.
        selection (`EmotionSelection`): Which emotions to keep.
        max_excluded, minimum_seconds (`float`): See [`load_corpora`].
        sources (`dict`, *optional*): See [`ClipsInfo`].
        keep_all (`bool`, defaults to `False`): Emotions without a clip keep their number: a part of the clips may lack some.

    Raises:
        CorpusError: see [`load_corpora`].
    """
    usable, excluded = exclude_unusable(rows, selection.knows, minimum_seconds)
    usable, copies = exclude_copies(rows, usable)
    excluded += copies
    report(rows, excluded, max_excluded)

    emotions = Words.of(arrow_columns(rows, ("emotion",))["emotion"]).take(usable)
    meant = [selection.label(word) for word in emotions.words]
    left_out = {word: n for word, n in emotions.counts().items() if selection.label(word) is None}
    if left_out:
        logger.info("left out, as not asked for: %s", ", ".join(f"{n} {name}" for name, n in left_out.items()))
    counted = {selection.label(word) for word in emotions.counts()}
    present = [name for name in selection.names if name in counted or keep_all]
    if len(present) < 2:
        raise CorpusError(f"emotions: found clips of {present or 'none'} alone, expected two emotions at least")
    if selection.chosen and (absent := sorted(set(selection.names) - set(present))):
        raise CorpusError(f"emotions: the corpora have no clip of {', '.join(absent)}")

    label_of = np.array([*(present.index(name) if name in present else -1 for name in meant), -1], dtype=np.int32)
    labels = label_of[emotions.codes]
    taken = np.array(usable, dtype=np.int64)[labels >= 0]
    # samples_hash stays: features of a frozen encoder are kept by it.
    rows = rows.remove_columns(["emotion", "copy_of", "problem", "detail"])
    together = with_labels(rows, taken, labels[labels >= 0], present)
    info = ClipsInfo(
        features=together.features,
        excluded=excluded,
        left_out=left_out,
        merged=selection.merged,
        sources=dict(sources or {}),
    )
    return Dataset(together.data, info=info).select(taken)


def with_labels(
    rows: Dataset, taken: npt.NDArray[np.int64], labels: npt.NDArray[Any], emotions: Sequence[str]
) -> Dataset:
    """
    All rows with a column `label`, which the rows `taken` have. Rows are selected after it: a column that is added to a selection
    would copy the audio.
    """
    label = np.full(len(rows), -1, dtype=np.int64)
    label[taken] = labels
    features = Features({"label": ClassLabel(names=list(emotions))})
    beside = Dataset(pa.table({"label": pa.array(label, mask=label < 0)}), info=DatasetInfo(features=features))
    return concatenate_datasets([rows, beside], axis=1)


def column(clips: Dataset, name: str) -> Words:
    """A column of words such as `speaker`, one for each clip; none for a clip without one, or without the column."""
    if name not in clips.column_names:
        return Words(np.full(len(clips), -1, dtype=np.int32), ())
    return Words.of(arrow_columns(clips, (name,))[name])


def emotion_column(clips: Dataset) -> Words:
    """The emotion of each clip."""
    labels = arrow_columns(clips, ("label",))["label"].to_numpy(zero_copy_only=False)
    return Words(labels.astype(np.int32), emotions_of(clips))


def emotions_of(clips: Dataset) -> tuple[str, ...]:
    """The emotions, in the order of the labels."""
    return tuple(clips.features["label"].names)


def names_of(clips: Dataset) -> Texts:
    """The name of each clip, the same on every machine."""
    return Texts(arrow_columns(clips, ("clip",))["clip"])


def seconds_of(clips: Dataset) -> npt.NDArray[np.float64]:
    """The length of each clip in seconds, NaN where it is not known yet."""
    seconds: npt.NDArray[np.float64]
    seconds = arrow_columns(clips, ("duration",))["duration"].to_numpy(zero_copy_only=False).astype(np.float64)
    stream = getattr(clips.info, "stream", None)
    return seconds if stream is None else np.fmax(seconds, stream.seconds.numpy()[clips["row"][:]])


def excluded_of(parts: Mapping[str, Dataset]) -> list[Excluded]:
    """The clips that cannot be used: those known when the corpora were read, and in streaming those found since."""
    found = list(parts["train"].info.excluded)
    for clips in parts.values():
        if clips.info.stream:
            found += clips.info.stream.excluded(names_of(clips), clips["row"][:])
    return found


def exclude_unusable(
    rows: Dataset, knows: Callable[[str], bool], minimum_seconds: float
) -> tuple[list[int], list[Excluded]]:
    """
    Separates the clips that can be used (their indices) from those that cannot: unreadable, empty, silent, not finite, shorter
    than `minimum_seconds`, of an emotion that `knows` rejects, or another copy of a clip by its name.
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
        elif not knows(emotions[i]):
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


def report(rows: Dataset, excluded: Sequence[Excluded], limit: float) -> None:
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
