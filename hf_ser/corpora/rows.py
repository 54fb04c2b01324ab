"""The form that every corpus is read into: rows with the same columns, the words in their tables, and their `Dataset`."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, Dataset

from hf_ser.emotions import DIMENSIONS, canonical

#: What soundfile decodes without FFmpeg.
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff"})

FEMALE, MALE = "female", "male"
GENDER_OF_WORD = {
    **dict.fromkeys(("f", "female", "w", "woman"), FEMALE),
    **dict.fromkeys(("m", "male", "man"), MALE),
}
SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "test1", "eval", "evaluation"), "test"),
}


class CorpusError(ValueError):
    """A corpus that cannot be read. The message has the corpus, what was expected, and what was found."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    One clip of a corpus, before its audio is read.

    Args:
        path (`str`): The audio file.
        name (`str`): The clip's name within its corpus, the same on every machine (`Actor_01/03-01-06-01-02-01-01`).
        emotion (`str`): One of `hf_ser.emotions.EMOTIONS`, or the corpus' own word where it is none of them.
        speaker (`str`, *optional*): The speaker within the corpus, to which [`to_dataset`] adds the corpus' name.
        gender (`str`, *optional*): `female` or `male`.
        session (`str`, *optional*): The recording session, where the corpus has them.
        split (`str`, *optional*): `train`, `validation` or `test`, where the corpus defines them.
        performance (`str`, *optional*): The performance that was recorded. Clips of the same one, in other folders or formats,
            are copies, of which one is used.
        dimensions (`dict[str, float]`): Arousal, valence and dominance, as far as known, in the corpus' own scale.
        votes (`Sequence[str]`): The emotion that each rater chose; several, joined by `+`, share the vote.
        ratings (`dict[str, Sequence[float]]`): For each dimension the values of the raters, in the corpus' own scale.
        extras (`dict[str, str]`): Further columns of the corpus (RAVDESS: intensity, statement; CREMA-D: level).
    """

    path: str
    name: str
    emotion: str
    speaker: str | None = None
    gender: str | None = None
    session: str | None = None
    split: str | None = None
    performance: str | None = None
    dimensions: dict[str, float] = field(default_factory=dict)
    votes: Sequence[str] = ()
    ratings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Excluded:
    """An excluded clip: its name, a short reason that can be counted, and the details."""

    clip: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason} ({self.detail})"


def corpus_of(clip: str, corpora: Iterable[str]) -> str:
    """
    The corpus with which a clip's name begins; if there is none, the part before the first slash. If a manifest has the corpora
    `lab` and `lab/phone`, the longest name counts.
    """
    return max((name for name in corpora if clip.startswith(f"{name}/")), key=len, default=clip.partition("/")[0])


#: The columns that a corpus has if it has values for them: dimensions in its own scale, the raters' votes and ratings.
RATED_COLUMNS = {
    **dict.fromkeys(DIMENSIONS, pa.float32()),
    "votes": pa.list_(pa.string()),
    **{f"{name}_ratings": pa.list_(pa.float32()) for name in DIMENSIONS},
}
LOSSLESS = frozenset({".wav", ".flac", ".aif", ".aiff"})


def to_dataset(rows: Iterable[Row], corpus: str) -> Dataset:
    """
    A corpus' rows as a `Dataset`: `clip` (the name), `emotion`, `speaker`, `gender`, `corpus`, `session`, `split`, `copy_of` (the
    clip that is used in place of this one), `audio` (undecoded), the corpus' extras and those of `RATED_COLUMNS` that it has.

    Clips are sorted by name and named `corpus/name`. The names of speakers and sessions begin with that of the corpus, so that
    they are unique if corpora are combined.
    """
    ordered = sorted(rows, key=lambda row: (row.name, row.path))
    names = _distinct([row.name for row in ordered])
    columns: dict[str, list[str | None]] = {
        "clip": [f"{corpus}/{name}" for name in names],
        "emotion": [row.emotion for row in ordered],
        "speaker": [f"{corpus}_{row.speaker}" if row.speaker else None for row in ordered],
        "gender": [row.gender for row in ordered],
        "corpus": [corpus] * len(ordered),
        "session": [f"{corpus}_{row.session}" if row.session else None for row in ordered],
        "split": [row.split for row in ordered],
        "copy_of": [f"{corpus}/{names[used]}" if used != i else None for i, used in enumerate(_used(ordered))],
        "audio": [row.path for row in ordered],
    }
    for extra in sorted({key for row in ordered for key in row.extras}):
        columns[extra] = [row.extras.get(extra) for row in ordered]
    # Not Dataset.from_dict, which checks every value: reading a corpus would take several times as long.
    rated: dict[str, list[Any]] = {
        "votes": [list(row.votes) or None for row in ordered],
        **{name: [row.dimensions.get(name) for row in ordered] for name in DIMENSIONS},
        **{f"{name}_ratings": [row.ratings.get(name) or None for row in ordered] for name in DIMENSIONS},
    }
    columns_with_values = {
        name: pa.array(values, RATED_COLUMNS[name])
        for name, values in rated.items()
        if any(value is not None for value in values)
    }
    table = pa.table({**{name: _strings(values) for name, values in columns.items()}, **columns_with_values})
    return Dataset(table).cast_column("audio", Audio(decode=False))


def gender(word: str | None) -> str | None:
    """`female`, `male` or `None` for a word of a table."""
    return GENDER_OF_WORD.get((word or "").strip().lower())


def split(word: str | None) -> str | None:
    """`train`, `validation`, `test` or `None` for a word of a table; another word stays as it is."""
    word = (word or "").strip().lower()
    return SPLIT_OF_WORD.get(word, word or None)


def is_split(word: str | None) -> bool:
    """Whether a word names a part of a split, such as `train`, `dev` or `test2`."""
    return re.sub(r"[\d_.-]+$", "", (word or "").strip().lower()) in SPLIT_OF_WORD


def to_number(text: str | None, where: str) -> float | None:
    """
    The number in a cell of a table, none if it is empty or NaN.

    Raises:
        CorpusError: if the text is no number; the message begins with `where`.
    """
    try:
        value = float(text or "nan")
    except ValueError:
        raise CorpusError(f"{where}: found {text!r}, expected a number") from None
    return value if math.isfinite(value) else None


def counted_votes(text: str | None, where: str) -> list[str]:
    """
    The votes that a text such as `angry:3 neutral:2` counts, see [`Row`].

    Raises:
        CorpusError: if the text has another form; the message begins with `where`.
    """
    votes: list[str] = []
    for word in filter(None, re.split(r"[\s,;]+", text or "")):
        emotion, _, count = word.rpartition(":")
        if not (emotion and count.isdecimal()):
            raise CorpusError(f"{where}: found {text!r}, expected votes such as 'angry:3 neutral:2'")
        votes += [canonical(emotion)] * int(count)
    return votes


def _strings(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        # A name on disk need not be UTF-8, but a name in a table must be. Such a file is not found, and its clip is excluded.
        return pa.array([value and value.encode(errors="backslashreplace").decode() for value in values], pa.string())


def _used(rows: Sequence[Row]) -> list[int]:
    """For each row the one that is used of all rows of its performance: the first lossless one, or the first."""
    best: dict[str | None, int] = {}
    for i in sorted(range(len(rows)), key=lambda i: os.path.splitext(rows[i].path)[1].lower() not in LOSSLESS):
        best.setdefault(rows[i].performance, i)
    return [i if row.performance is None else best[row.performance] for i, row in enumerate(rows)]


def _distinct(names: Sequence[str]) -> list[str]:
    """Adds a number to repeated names: of the same clip as WAV and as FLAC, or of a line twice in a manifest."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct


def audio_files(root: Path, corpus: str) -> list[Path]:
    """
    All audio files below `root`, as paths relative to it, sorted. `root` may also be a text file with one name per line, which is
    enough to count clips.

    Raises:
        CorpusError: if `root` does not exist.
    """
    if root.is_file() and root.suffix == ".txt":
        return sorted(Path(line.strip()) for line in root.read_text(encoding="utf-8").splitlines() if line.strip())
    if not root.is_dir():
        raise CorpusError(
            f"{corpus}: there is no folder {str(root)!r}. Give the folder that holds the corpus' audio files."
        )
    return sorted(path for path in walk(root) if os.path.splitext(path.name)[1].lower() in AUDIO_SUFFIXES)


def walk(root: Path) -> Iterator[Path]:
    """All files below a folder, links included, as paths relative to it. Hidden files and folders are left out."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up the tree
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__MACOSX"]
        yield from (Path(folder, name).relative_to(root) for name in files if not name.startswith("."))


def stem(path: Path) -> str:
    """The path without its suffix, in POSIX form: a clip's name, the same for a WAV and a FLAC."""
    return path.with_suffix("").as_posix()
