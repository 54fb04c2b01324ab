"""Ways to split a dataset of clips into train, validation and test."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict

from hf_ser.clips import as_clips, column, emotion_column, names_of
from hf_ser.corpora.columns import Words
from hf_ser.wording import listed

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")

Indices = npt.NDArray[np.int64]


class SplitError(ValueError):
    """A split that the clips do not allow. The message has what was found, what is needed and what to do."""


def train_test_split(
    clips: Dataset,
    by: str = "speaker",
    *,
    test_size: float = 0.2,
    validation_size: float = 0.1,
    seed: int = 42,
) -> DatasetDict:
    """
    Splits clips into `train`, `validation` and `test`.

    Args:
        clips (`datasets.Dataset`): From [`hf_ser.load_corpora`], or any dataset with `audio` and `label`, and for a split by
            speaker `speaker`.
        by (`str`, defaults to `"speaker"`):
            `speaker`: speaker-independent. No speaker is in two parts, and each part has about the same shares of emotions,
            genders and corpora. `random`: as in HuBERT-SER. Speakers are in all parts, so that metrics say nothing about a new
            speaker.
        test_size, validation_size (`float`, defaults to 0.2 and 0.1): Shares of all clips, each between 0 and 1.
        seed (`int`, defaults to 42): The same seed gives the same split of the same clips.

    Returns:
        `DatasetDict` with `train`, `validation` and `test`.

    Raises:
        SplitError: if a clip has no speaker, or there are too few speakers or clips.
    """
    if by not in ("speaker", "random"):
        raise SplitError(f"by={by!r}: expected 'speaker' or 'random'")
    _require_sizes(test_size, validation_size)
    clips = as_clips(clips)
    make = _by_speaker if by == "speaker" else _at_random
    rows = make(clips, test_size, validation_size, seed)
    return parts_of(clips, by, {"seed": seed, "test_size": test_size, "validation_size": validation_size}, rows)


def _require_sizes(test_size: float, validation_size: float) -> None:
    if not (0 < test_size < 1 and 0 < validation_size < 1 and test_size + validation_size < 1):
        raise SplitError(
            "test_size and validation_size: expected shares between 0 and 1 that leave clips to train on, found "
            f"{test_size} and {validation_size}"
        )


def _at_random(clips: Dataset, test_size: float, validation_size: float, seed: int) -> dict[str, Indices]:
    order = np.random.default_rng(seed).permutation(len(clips))
    test, validation = round(test_size * len(clips)), round(validation_size * len(clips))
    if min(test, validation, len(clips) - test - validation) < 1:
        raise SplitError(f"random split: {len(clips)} clips are too few for three parts")
    return dict(zip(("test", "validation", "train"), np.split(order, [test, test + validation]), strict=True))


def _by_speaker(clips: Dataset, test_size: float, validation_size: float, seed: int) -> dict[str, Indices]:
    """The best of several assignments of the speakers, by the shares of each emotion, gender and corpus."""
    known = column(clips, "speaker")
    speakers = _groups(clips, known, "speaker")
    if len(speakers) < 3:
        raise SplitError(
            f"speaker split: expected three speakers at least, one for each part; found {len(speakers)} "
            f"({', '.join(speakers)}). Add a corpus, or split at random (its metrics say nothing about a new speaker)."
        )
    row = known.places(speakers)
    # Clips of each speaker by emotion, gender and corpus: (speakers, traits)
    traits = (emotion_column(clips), column(clips, "gender"), column(clips, "corpus"))
    counts = np.concatenate([_counts(row, len(speakers), trait) for trait in traits], axis=1)
    shares = np.array([1 - test_size - validation_size, validation_size, test_size])
    wanted = shares[:, None] * counts.sum(axis=0)  # (parts, traits)

    rng = np.random.default_rng(seed)
    candidates = (_assign(counts, wanted, rng) for _ in range(20))
    _, part_of = min(candidates, key=lambda candidate: candidate[0])
    return {part: np.flatnonzero(part_of[row] == k) for k, part in enumerate(PARTS)}


def _counts(row: Indices, rows: int, words: Words) -> npt.NDArray[np.float64]:
    """The number of times that each word of a column, in sorted order, is in each row: `(rows, words)`."""
    coded = Words.of([str(word) for word in words])  # unknown ones count, too
    order = sorted(coded.words)
    counts = np.bincount(row * len(order) + coded.places(order), minlength=rows * len(order))
    return counts.reshape(rows, len(order)).astype(np.float64)


def _assign(counts: npt.NDArray[Any], wanted: npt.NDArray[Any], rng: np.random.Generator) -> tuple[float, Indices]:
    """Assigns the speakers one by one, in random order, to the best part; then moves them while that improves the split."""
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
        if len(counts) - nth <= missing.sum():  # the last speakers go to empty parts
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


def speaker_folds(clips: Dataset, folds: int | None = None, by: str = "speaker") -> list[DatasetDict]:
    """
    PEFT-SER's folds (section V.A). By speaker: the sorted speakers are cut into blocks; each block is the test part once, and the
    last fifth of the other speakers is the validation part. By session: each session is the test part once, and the last of the
    others is the validation part.

    Args:
        clips (`datasets.Dataset`): See [`train_test_split`]; a fold by session needs a column `session`.
        folds (`int`, *optional*): The number of folds, by default 5 by speaker, and one for each session by session. One for
            each speaker leaves one speaker out each time.
        by (`str`, defaults to `"speaker"`): `speaker` or `session`.

    Returns:
        A `DatasetDict` with `train`, `validation` and `test` for each fold.

    Raises:
        SplitError: if a clip has no speaker (session), or there are too few of them.
    """
    if by not in ("speaker", "session"):
        raise SplitError(f"by={by!r}: expected 'speaker' or 'session'")
    clips = as_clips(clips)
    words = column(clips, by)
    groups = _groups(clips, words, by)
    folds = folds or (5 if by == "speaker" else len(groups))
    if folds < 2 or len(groups) < max(folds, 3):
        raise SplitError(
            f"folds={folds} by {by}: expected two folds at least, a {by} for each and three in all; found {len(groups)} "
            f"({', '.join(groups[:10])}). Choose fewer folds, or split at random."
        )
    places = words.places(groups)
    found = []
    for fold, test in enumerate(np.array_split(np.arange(len(groups)), folds)):
        rest = np.setdiff1d(np.arange(len(groups)), test)
        if len(rest) < 2:
            raise SplitError(
                f"folds={folds}: fold {fold} leaves {len(rest)} {by} for train and validation; choose more folds"
            )
        validation = rest[-max(len(rest) // 5, 1) :] if by == "speaker" else rest[-1:]
        inside = {"test": np.isin(places, test), "validation": np.isin(places, validation)}
        rows = {part: np.flatnonzero(mask) for part, mask in inside.items()}
        rows["train"] = np.flatnonzero(~(inside["test"] | inside["validation"]))
        found.append(parts_of(clips, "kfold", {"by": by, "fold": fold, "folds": folds}, rows))
    return found


def official_split(clips: Dataset, fold: int | None = None) -> DatasetDict:
    """
    The corpus' own parts, from its column `split`, or from its columns `fold_1` and so on if it has folds (EmoBox). If the
    validation part is empty, it gets the last fifth of the training speakers, or a random fifth of the training clips if their
    speakers are unknown. Clips in no part are left out, and the log has their number.

    Args:
        clips (`datasets.Dataset`): See [`train_test_split`].
        fold (`int`, *optional*): The fold, from 0; needed if the corpus has folds.

    Returns:
        `DatasetDict` with `train`, `validation` and `test`, and further test parts by their names (MSP-Podcast: `test2`,
        `test3`).

    Raises:
        SplitError: if there is no such fold, or no clip to train or to test on.
    """
    clips = as_clips(clips)
    folds = official_folds(clips)
    if folds and (fold is None or not 0 <= fold < folds):
        raise SplitError(f"fold: expected 0 to {folds - 1}, found {fold}")
    official = column(clips, f"fold_{fold + 1}" if folds and fold is not None else "split")
    tests = sorted(name for name in official.counts() if name.startswith("test"))
    names = (*PARTS, *(name for name in tests if name not in PARTS))
    places = official.places(names)
    rows = {part: np.flatnonzero(places == k) for k, part in enumerate(names)}
    if empty := [part for part in ("train", "test") if not len(rows[part])]:
        found = Counter(str(name) for name in official)
        raise SplitError(
            f"official split: no clip for {' and '.join(empty)}. The corpus' column split must be train, validation or test; "
            f"found {', '.join(f'{name} ({count} clips)' for name, count in found.most_common(5))}."
        )
    if not len(rows["validation"]):
        logger.info("official split: no clip validates; a fifth of the training part does")
        rows["train"], rows["validation"] = _some_validate(clips, rows["train"])
    if left := len(clips) - sum(map(len, rows.values())):
        logger.warning("official split: %d clips are in none of %s, and are left out", left, listed(names))
    return parts_of(clips, "official", {"fold": fold, "folds": folds} if folds else {}, rows)


def official_folds(clips: Dataset) -> int:
    """The number of folds that a corpus defines: 0 for most."""
    return sum(re.fullmatch(r"fold_\d+", name) is not None for name in clips.column_names)


def _some_validate(clips: Dataset, train: Indices) -> tuple[Indices, Indices]:
    """Divides training clips (their indices) into train and a fifth for validation."""
    words = column(clips, "speaker").take(train)
    speakers = sorted(words.counts())
    if words.unknown or len(speakers) < 2:
        order = np.random.default_rng(42).permutation(train)
        chosen = np.isin(train, order[: max(len(order) // 5, 1)])
    else:
        chosen = words.places(speakers[-max(len(speakers) // 5, 1) :]) >= 0
    return train[~chosen], train[chosen]


def cross_corpus_split(
    clips: Dataset,
    train_corpora: Sequence[str],
    *,
    test_size: float = 0.2,
    validation_size: float = 0.1,
    seed: int = 42,
) -> DatasetDict:
    """
    A split for training on some corpora and testing on them and on each other one.

    Args:
        clips (`datasets.Dataset`): Of two corpora at least; see [`train_test_split`].
        train_corpora (`Sequence[str]`): The corpora for training. They are split by speaker.
        test_size, validation_size, seed: Of that split; see [`train_test_split`].

    Returns:
        `DatasetDict` with `train`, `validation` and `test` of the training corpora, without shared speakers, and
        `test_<corpus>`, with all clips of it, for each other corpus.

    Raises:
        SplitError: if a size is no share, a corpus is missing, no other corpus is left, or a split by speaker is impossible.
    """
    _require_sizes(test_size, validation_size)
    clips = as_clips(clips)
    corpora = column(clips, "corpus")
    known = list(corpora.counts())
    if missing := sorted(set(train_corpora) - set(known)):
        raise SplitError(f"train_corpora: found no clip of {listed(missing)}; the corpora are {listed(known)}")
    others = [name for name in known if name not in train_corpora]
    if not (train_corpora and others):
        raise SplitError(
            f"train_corpora={list(train_corpora)}: expected some of the corpora, and one more to test on; found {listed(known)}"
        )
    places = corpora.places(others)
    inside = np.flatnonzero(places < 0)
    sizes: dict[str, Any] = {"test_size": test_size, "validation_size": validation_size, "seed": seed}
    of_speakers = _by_speaker(clips.select(inside), **sizes)
    rows = {part: inside[chosen] for part, chosen in of_speakers.items()}
    rows |= {f"test_{name}": np.flatnonzero(places == k) for k, name in enumerate(others)}
    return parts_of(clips, "cross_corpus", {"train_corpora": list(train_corpora), **sizes}, rows)


def _groups(clips: Dataset, words: Words, by: str) -> list[str]:
    if words.unknown:
        without = names_of(clips)[int(np.argmax(words.codes < 0))]
        raise SplitError(
            f"a split by {by} needs the {by} of every clip; {words.unknown} of {len(clips)} have none, for instance "
            f"{without!r}. Add a column {by}, leave that corpus out, or split at random."
        )
    return list(words.counts())


def parts_of(clips: Dataset, name: str, settings: dict[str, Any], rows: Mapping[str, Indices]) -> DatasetDict:
    """The parts with `rows` of the clips, `PARTS` first. Their `info` has the name and settings of the split."""
    unused = np.setdiff1d(np.arange(len(clips)), np.concatenate(list(rows.values())))
    parts = DatasetDict({part: clips.select(np.sort(rows[part])) for part in {**dict.fromkeys(PARTS), **rows}})
    for dataset in parts.values():
        dataset.info.split = {"name": name, **settings}
        dataset.info.left_out_by_split = column(clips, "corpus").take(unused).counts()
    return parts
