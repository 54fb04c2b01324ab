"""Which clips train, which choose the model, and which test it: random, by speaker, k-fold, official, or from a file."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.corpora.columns import Texts, Words

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")

#: The key in `splits.json` that says how clips are named in it, if not by their names.
NAMED_BY = "clips_named_by"

Indices = npt.NDArray[np.int64]


class SplitError(ValueError):
    """A split that the clips do not allow: the message says what is there, what is needed and what to do."""


@dataclass(frozen=True)
class Clips:
    """
    What a split needs to know of clips, each of length `(clips,)`.

    Args:
        names (`Sequence[str]`): Their names, the same on every machine.
        labels (`Sequence[str]`): Their emotions.
        speakers (`Sequence[str | None]`): Their speakers, `None` where unknown.
        genders (`Sequence[str | None]`): Their speakers' genders, `None` where unknown.
        corpora (`Sequence[str]`): The corpora that they come from.
        sessions (`Sequence[str | None]`): Their sessions, `None` where there are none.
        official (`Sequence[str | None]`): The part that the corpus puts them in, `None` where it does not say.
    """

    names: Sequence[str]
    labels: Sequence[str]
    speakers: Sequence[str | None]
    genders: Sequence[str | None]
    corpora: Sequence[str]
    sessions: Sequence[str | None]
    official: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, indices: Indices) -> "Clips":
        """The clips at `indices`."""
        return Clips(*(_taken(column, indices) for column in vars(self).values()))


def _taken(column: Sequence[Any], indices: Indices) -> Sequence[Any]:
    return column.take(indices) if isinstance(column, Words | Texts) else [column[i] for i in indices]


@dataclass(frozen=True)
class Split:
    """
    A split of clips into three parts.

    Args:
        name (`str`): `random`, `speaker`, `kfold`, `official` or `file`.
        settings (`dict`): What it was made with: seed, shares, fold.
        parts (`dict[str, np.ndarray]`): For `train`, `validation` and `test`, the indices of the clips, sorted.
    """

    name: str
    settings: dict[str, Any]
    parts: dict[str, Indices]

    def speakers(self, clips: Clips) -> dict[str, set[str]]:
        """The known speakers of each part."""
        known = Words.of(clips.speakers)
        return {part: {name for name in known.take(rows).counts() if name} for part, rows in self.parts.items()}

    def shared_speakers(self, clips: Clips) -> list[str]:
        """The speakers that are both in train and in test, computed from the clips, whatever the split is called."""
        speakers = self.speakers(clips)
        return sorted(speakers["train"] & speakers["test"])

    def describe(self, clips: Clips) -> dict[str, Any]:
        """The split in figures: for each part its clips, speakers and emotions, and what train and test share."""
        speakers = self.speakers(clips)
        named, labels = Words.of(clips.speakers), Words.of(clips.labels)
        return {
            "name": self.name,
            **self.settings,
            "parts": {
                part: {
                    "clips": len(rows),
                    "speakers": len(speakers[part]),
                    "clips_without_speaker": named.take(rows).unknown,
                    "emotions": labels.take(rows).counts(),
                }
                for part, rows in self.parts.items()
            },
            "speakers_shared_by_train_and_test": len(speakers["train"] & speakers["test"]),
            "speakers_shared_by_train_and_validation": len(speakers["train"] & speakers["validation"]),
        }

    def save(self, path: Path, clips: Clips) -> None:
        """Writes `splits.json`: the names of each part's clips, what the split was made with, and its shared speakers."""
        content = {
            "name": self.name,
            "settings": self.settings,
            "shared_speakers": self.shared_speakers(clips),
            "emotions": {part: entry["emotions"] for part, entry in self.describe(clips)["parts"].items()},
            "parts": {part: list(_taken(clips.names, rows)) for part, rows in self.parts.items()},
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def hashed(saved: dict[str, Any]) -> dict[str, Any]:
    """
    The content of a `splits.json` with a hash in place of each clip's and speaker's name. It can still be compared with, and
    read back by, whoever has the corpora. It is no secret: whoever guesses a name can check it.
    """
    if NAMED_BY in saved:
        return saved
    parts = {part: sorted(map(hash_name, names)) for part, names in saved["parts"].items()}
    shared = sorted(map(hash_name, saved.get("shared_speakers", [])))
    return {
        **saved,
        NAMED_BY: "the first 16 digits of the SHA-256 of the name",
        "shared_speakers": shared,
        "parts": parts,
    }


def hash_name(name: str) -> str:
    """What stands for a clip's name in a published `splits.json`."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _as_named(saved: dict[str, Any], clips: Clips) -> list[str]:
    """The clips' names in the way that a `splits.json` names them."""
    return [hash_name(name) for name in clips.names] if NAMED_BY in saved else list(clips.names)


def _split(name: str, settings: dict[str, Any], **parts: npt.ArrayLike) -> Split:
    return Split(name, settings, {part: np.sort(np.asarray(parts[part], dtype=np.int64)) for part in PARTS})


def random(clips: Clips, *, seed: int = 42, test_share: float = 0.2, validation_share: float = 0.1) -> Split:
    """
    HuBERT-SER's split: `test_share` of all clips drawn at random, and `validation_share` of all from the rest. Speakers
    are in every part, so its figures say nothing about a new speaker.

    Raises:
        SplitError: if a part would have no clip.
    """
    _check_shares(test_share, validation_share)
    order = np.random.default_rng(seed).permutation(len(clips))
    test = round(test_share * len(clips))
    validation = round(validation_share * len(clips))
    if min(test, validation, len(clips) - test - validation) < 1:
        raise SplitError(f"random split: {len(clips)} clips are too few for three parts")
    settings = {"seed": seed, "test_share": test_share, "validation_share": validation_share}
    return _split(
        "random",
        settings,
        test=order[:test],
        validation=order[test : test + validation],
        train=order[test + validation :],
    )


def speaker(
    clips: Clips, *, seed: int = 42, test_share: float = 0.2, validation_share: float = 0.1, tries: int = 20
) -> Split:
    """
    No speaker is in two parts. Of `tries` seeded assignments of the speakers, the one is taken whose parts come closest
    to their shares of every emotion, gender and corpus.

    Raises:
        SplitError: if a clip has no speaker, or there are fewer than three speakers.
    """
    _check_shares(test_share, validation_share)
    speakers = _groups(clips, clips.speakers, "speaker")
    if len(speakers) < 3:
        raise SplitError(
            f"speaker split: three speakers at least are needed, one for each part; found {len(speakers)} "
            f"({', '.join(speakers)}). Add a corpus, or use --split random (its figures say nothing about a new speaker)."
        )
    row = _places(clips.speakers, speakers)
    # Clips of each speaker by emotion, gender and corpus: (speakers, traits)
    counts = np.concatenate(
        [_counts(row, len(speakers), column) for column in (clips.labels, clips.genders, clips.corpora)], axis=1
    )
    shares = np.array([1 - test_share - validation_share, validation_share, test_share])
    wanted = shares[:, None] * counts.sum(axis=0)  # (parts, traits)

    rng = np.random.default_rng(seed)
    candidates = (_assign(counts, wanted, rng) for _ in range(tries))
    _, part_of = min(candidates, key=lambda candidate: candidate[0])
    part_of_clip = part_of[row]
    settings = {"seed": seed, "test_share": test_share, "validation_share": validation_share}
    return Split("speaker", settings, {part: np.flatnonzero(part_of_clip == k) for k, part in enumerate(PARTS)})


def _places(column: Sequence[str | None], words: Sequence[str]) -> Indices:
    """For each clip the place of its word in `words`, -1 if it is none of them."""
    coded = Words.of(column)
    place = {word: k for k, word in enumerate(words)}
    # The last one is for clips without a word, whose code is -1.
    return np.array([*(place.get(word, -1) for word in coded.words), -1], dtype=np.int64)[coded.codes]


def _counts(row: Indices, rows: int, column: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """How often each word of a column, in sorted order, is in each row: `(rows, words)`."""
    coded = Words.of([str(word) for word in column])  # an unknown one counts, too
    order = sorted(coded.words)
    counts = np.bincount(row * len(order) + _places(coded, order), minlength=rows * len(order))
    return counts.reshape(rows, len(order)).astype(np.float64)


def _assign(counts: npt.NDArray[Any], wanted: npt.NDArray[Any], rng: np.random.Generator) -> tuple[float, Indices]:
    """Puts the speakers one by one, in random order, where they help most; then moves them while that helps."""
    scale = wanted.sum(axis=0).clip(min=1)

    def distances(filled: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`(trials,)` of `(trials, parts, traits)`."""
        return (((filled - wanted) / scale) ** 2).reshape(len(filled), -1).sum(axis=1)

    order = rng.permutation(len(counts))
    part_of = np.zeros(len(counts), dtype=np.int64)
    filled = np.zeros_like(wanted)
    each = np.eye(3)[:, :, None]  # (trials, parts, 1): the trial of each part
    for nth, s in enumerate(order):
        after = distances(filled + each * counts[s])
        missing = ~filled.any(axis=1)
        if len(counts) - nth <= missing.sum():  # the last speakers go to the parts that have none yet
            after[~missing] = np.inf
        part_of[s] = np.argmin(after)
        filled[part_of[s]] += counts[s]
    best, moved = float(distances(filled[None])[0]), True
    speakers = np.bincount(part_of, minlength=3)
    while moved:
        moved = False
        for s in order:
            here = part_of[s]
            if speakers[here] == 1:
                continue
            trials = filled + (each - each[here]) * counts[s]
            after = distances(trials)
            better = after < best - 1e-12
            better[here] = False
            if better.any():
                there = int(np.argmax(better))
                best, filled, part_of[s], moved = float(after[there]), trials[there], there, True
                speakers += np.arange(3) == there
                speakers -= np.arange(3) == here
    return best, part_of


def kfold(clips: Clips, *, fold: int, folds: int | None = None, by: str = "speaker") -> Split:
    """
    PEFT-SER's folds (section V.A). By speaker: the speakers in sorted order, cut into `folds` unshuffled blocks (5 by
    default), block `fold` is the test part and the last fifth of the other speakers the validation part. By session:
    session `fold` is the test part, the last of the others the validation part, and there are as many folds as sessions.

    Args:
        fold (`int`): Which one, from 0.
        folds (`int`, *optional*): How many there are.
        by (`str`, defaults to `"speaker"`): `speaker` or `session`.

    Raises:
        SplitError: if a clip has no speaker (session), there are too few of them, or no such fold.
    """
    if by not in ("speaker", "session"):
        raise SplitError(f"kfold split: folds are made by speaker or session, found {by!r}")
    column = Words.of(clips.speakers if by == "speaker" else clips.sessions)
    groups = _groups(clips, column, by)
    folds = folds or (5 if by == "speaker" else len(groups))
    if folds < 2 or len(groups) < max(folds, 3):
        raise SplitError(
            f"kfold split: {folds} folds by {by} need two folds at least, and a {by} for each and three in all; "
            f"found {len(groups)} ({', '.join(groups[:10])}). Choose fewer --folds, or --split random."
        )
    if not 0 <= fold < folds:
        raise SplitError(f"kfold split: --fold must lie between 0 and {folds - 1}, found {fold}")
    test = set(np.array_split(np.array(groups), folds)[fold].tolist())
    rest = [group for group in groups if group not in test]
    if len(rest) < 2:
        raise SplitError(
            f"kfold split: fold {fold} leaves {len(rest)} {by} for train and validation; choose more --folds"
        )
    validation = set(rest[-max(len(rest) // 5, 1) :] if by == "speaker" else rest[-1:])
    return _split(
        "kfold",
        {"by": by, "fold": fold, "folds": folds},
        test=[i for i, group in enumerate(column) if group in test],
        validation=[i for i, group in enumerate(column) if group in validation],
        train=[i for i, group in enumerate(column) if group not in test | validation],
    )


def official(clips: Clips) -> Split:
    """
    The corpus' own parts. Clips that it puts in none of the three are left out, and the log says how many.

    Raises:
        SplitError: if a part has no clip.
    """
    official = _places(clips.official, PARTS)
    parts = {part: np.flatnonzero(official == k) for k, part in enumerate(PARTS)}
    if empty := [part for part, rows in parts.items() if not len(rows)]:
        found = Counter(str(name) for name in clips.official)
        raise SplitError(
            f"official split: no clip for {', '.join(empty)}. The corpus' split column must say train, validation and "
            f"test; found {', '.join(f'{name} ({count} clips)' for name, count in found.most_common(5))}."
        )
    if left := len(clips) - sum(map(len, parts.values())):
        logger.warning("official split: %d clips are in none of train, validation and test, and are left out", left)
    return _split("official", {}, **parts)


def from_file(clips: Clips, path: Path) -> Split:
    """
    Reads back a split that [`Split.save`] wrote. Clips that are not in it are left out, clips in it that are not there
    are missed, and the log says how many.

    Raises:
        SplitError: if the file is missing or no such file, names a clip twice, or a part has no clip that is there.
    """
    parts, missed = parts_in_file(clips, path)
    saved = json.loads(path.read_text(encoding="utf-8"))
    if empty := [part for part, rows in parts.items() if not len(rows)]:
        names = [name for part in PARTS for name in saved["parts"][part]]
        raise SplitError(
            f"--splits: none of the clips of {' and '.join(empty)} in {str(path)!r} is in the corpora. It names clips such "
            f"as {next(iter(names), 'none')!r}; the corpora have clips such as {_as_named(saved, clips)[0]!r}."
        )
    left = len(clips) - sum(map(len, parts.values()))
    if missed or left:
        logger.warning("%s: %d of its clips are missing, %d clips of the corpora are not in it", path, missed, left)
    return _split("file", {"made_as": saved.get("name"), **saved.get("settings", {})}, **parts)


def parts_in_file(clips: Clips, path: Path) -> tuple[dict[str, Indices], int]:
    """
    Which of the clips are in which part of a split that [`Split.save`] wrote; a part may have none.

    Returns:
        For each part the indices of its clips, sorted; and how many clips of the file are not there.

    Raises:
        SplitError: if the file is missing or no such file, or names a clip twice.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        wanted = {part: list(saved["parts"][part]) for part in PARTS}
    except OSError as error:
        raise SplitError(f"--splits: {str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SplitError(
            f"--splits: {str(path)!r} is no splits.json; it needs parts with train, validation and test, each a list of "
            "clip names"
        ) from error
    everywhere = Counter(name for names in wanted.values() for name in names)
    if twice := [name for name, count in everywhere.items() if count > 1]:
        raise SplitError(f"--splits: {str(path)!r} names {len(twice)} clips twice, for instance {twice[0]!r}")
    index = {name: i for i, name in enumerate(_as_named(saved, clips))}
    parts = {
        part: np.array(sorted(index[name] for name in names if name in index), dtype=np.int64)
        for part, names in wanted.items()
    }
    return parts, len(everywhere) - sum(map(len, parts.values()))


def require_same(path: Path, split: Split, clips: Clips) -> None:
    """
    Makes sure that a run goes on with the split that it began with: a clip that moved from test to train would be tested
    after all, by a model that has learned it.

    Raises:
        SplitError: if the clips of a part, or their emotions, are not those that `path` has.
    """
    began = json.loads(path.read_text(encoding="utf-8"))
    emotions = {part: entry["emotions"] for part, entry in split.describe(clips)["parts"].items()}
    names = _as_named(began, clips)
    moved = {p: set(began["parts"][p]) ^ {names[i] for i in rows} for p, rows in split.parts.items()}
    if any(moved.values()) or began.get("emotions") != emotions:
        found = ", ".join(f"{len(names)} in {part}" for part, names in moved.items() if names) or "their emotions"
        raise SplitError(
            f"--resume_from_checkpoint: the clips are not those that the run began with ({found} differ from {path}). "
            f"Resume with the same corpora, emotions and split, or add --splits {path}."
        )


#: The splits by name; each takes the clips and its own settings.
SPLITS: dict[str, Callable[..., Split]] = {"random": random, "speaker": speaker, "kfold": kfold, "official": official}


def check(split: Split, clips: Clips, emotions: Sequence[str]) -> list[str]:
    """
    What a reader of the run's figures must know: an emotion that a part lacks, a speaker that train and test share,
    clips whose speaker is unknown. Each as a sentence.

    Raises:
        SplitError: if train lacks an emotion: a model cannot learn it, and its figures would mean nothing.
    """
    warnings = []
    labels = Words.of(clips.labels)
    for part, rows in split.parts.items():
        present = labels.take(rows).counts()
        if absent := [emotion for emotion in emotions if emotion not in present]:
            if part == "train":
                raise SplitError(
                    f"{split.name} split: train has no clip of {', '.join(absent)}. Leave it out with --emotions, merge it "
                    "into another, or choose another split or seed."
                )
            warnings.append(f"{part} has no clip of {', '.join(absent)}: figures on it say nothing about that.")
    if shared := split.shared_speakers(clips):
        warnings.append(
            f"{len(shared)} speakers are in both train and test: figures on test say nothing about a new speaker."
        )
    speakers = Words.of(clips.speakers)
    if unknown := sum(speakers.take(rows).unknown for rows in split.parts.values()):
        warnings.append(f"{unknown} clips have no known speaker: whether train and test share speakers cannot be told.")
    return warnings


def _groups(clips: Clips, column: Sequence[str | None], by: str) -> list[str]:
    coded = Words.of(column)
    if coded.unknown:
        without = clips.names[int(np.argmax(coded.codes < 0))]
        raise SplitError(
            f"a split by {by} needs the {by} of every clip; {coded.unknown} of {len(clips)} have none, for instance "
            f"{without!r}. Add a {by} column, leave that corpus out, or use --split random."
        )
    return list(coded.counts())


def _check_shares(test_share: float, validation_share: float) -> None:
    if not (0 < test_share < 1 and 0 < validation_share < 1 and test_share + validation_share < 1):
        raise SplitError(
            f"--test_share and --validation_share must lie between 0 and 1 and leave something to train on; found "
            f"{test_share} and {validation_share}"
        )
