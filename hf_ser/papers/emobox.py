"""EmoBox's six folds of RAVDESS (arXiv 2406.07162) as splits that `--splits` reads."""

from pathlib import Path

import numpy as np

from hf_ser.corpora import read_corpora
from hf_ser.papers.figures import emobox_test_actors
from hf_ser.splits import Clips, Split, SplitError
from hf_ser.wording import listed

NAME = "emobox"
CORPUS = "ravdess"
ACTORS = range(1, 25)


def read_clips(specification: str) -> Clips:
    """
    The clips of RAVDESS, copies left out.

    Args:
        specification (`str`): `ravdess=FOLDER`, as the training will be told: clips are named by their place in that folder.

    Raises:
        CorpusError: if there is no RAVDESS.
    """
    (rows,) = read_corpora([specification])
    rows = rows.select([i for i, copy_of in enumerate(rows["copy_of"][:]) if copy_of is None])
    columns = (rows[name][:] for name in ("clip", "emotion", "speaker", "gender", "corpus", "session", "split"))
    return Clips(*columns)


def missing_actors(clips: Clips) -> list[int]:
    """The actors of RAVDESS of whom there is no clip."""
    return sorted(set(ACTORS) - set(_actors(clips)))


def make_splits(clips: Clips) -> list[Split]:
    """
    EmoBox's folds. A fold tests its four actors; the actors that the next one tests choose the model (EmoBox draws clips of
    the others at random for that), and all others train. Where actors are missing the parts are smaller.

    Raises:
        SplitError: if so many are missing that a part would have no clip.
    """
    test = emobox_test_actors()
    actors = _actors(clips)
    splits = []
    for fold, own in enumerate(test):
        chosen = {"test": set(own), "validation": set(test[(fold + 1) % len(test)])}
        chosen["train"] = set(ACTORS) - chosen["test"] - chosen["validation"]
        parts = {
            part: np.array([i for i, actor in enumerate(actors) if actor in chosen[part]], dtype=np.int64)
            for part in ("train", "validation", "test")
        }
        if empty := [part for part, rows in parts.items() if not len(rows)]:
            wanted = ", ".join(map(str, sorted(chosen[empty[0]])))
            raise SplitError(
                f"EmoBox's fold {fold + 1}: no clip for {empty[0]}; of its actors {wanted} none is in the corpus"
            )
        splits.append(Split(NAME, {"fold": fold, "folds": len(test)}, parts))
    return splits


def write_splits(clips: Clips, folder: Path) -> list[Path]:
    """
    Writes `fold_1.json` to `fold_6.json` into `folder`.

    Raises:
        SplitError: see [`make_splits`].
    """
    splits = make_splits(clips)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"fold_{fold + 1}.json" for fold in range(len(splits))]
    for split, path in zip(splits, paths, strict=True):
        split.save(path, clips)
    return paths


def explain(clips: Clips) -> str:
    """In words: which actors are missing, and what that means."""
    missing = missing_actors(clips)
    if not missing:
        return "all 24 actors are there"
    reduced = [fold + 1 for fold, own in enumerate(emobox_test_actors()) if set(own) & set(missing)]
    return (
        f"actors {listed(missing)} of RAVDESS are missing: the test parts of folds {listed(reduced)} and all train parts are "
        "smaller, and such figures do not stand beside EmoBox's"
    )


def _actors(clips: Clips) -> list[int]:
    return [int(str(speaker).removeprefix(f"{CORPUS}_")) for speaker in clips.speakers]
