"""Ways to split clips: at random, by speaker, k-fold, as the corpus has it."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.corpora.columns import Words
from hf_ser.splits.split import PARTS, Clips, Indices, Split, SplitError

logger = logging.getLogger(__name__)


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


#: The splits by name; each takes the clips and its own settings.
SPLITS: dict[str, Callable[..., Split]] = {"random": random, "speaker": speaker, "kfold": kfold, "official": official}
