"""
Writes EmoBox's six folds of RAVDESS (arXiv 2406.07162) as files for `--splits`: fold_1.json to fold_6.json.

    python reproduce/emobox.py ravdess=/data/RAVDESS runs/emobox/splits

A fold tests its four actors; the actors that the next fold tests choose the model (EmoBox draws clips of the other actors at
random for that), and all others train. Clips are named by their place in the folder: train with the same ravdess=FOLDER.
"""

import sys
from pathlib import Path

import numpy as np
from published import EMOBOX_TEST_ACTORS

from hf_ser.clips import without_audio
from hf_ser.command_line import errors_in_one_line
from hf_ser.corpora import read_corpora
from hf_ser.splits import SplitError, parts_of, save_splits
from hf_ser.wording import listed

ACTORS = set(range(1, 25))


def write_folds(specification: str, folder: Path) -> list[Path]:
    """
    Writes the folds of `specification`, `ravdess=FOLDER`, into `folder`.

    Raises:
        CorpusError: if there is no RAVDESS.
        SplitError: if a fold has no clip of its actors.
    """
    (rows,) = read_corpora([specification])
    rows = rows.select([i for i, copy_of in enumerate(rows["copy_of"][:]) if copy_of is None])
    actors = np.array([int(str(speaker)[-2:]) for speaker in rows["speaker"]])
    if missing := ACTORS - set(actors.tolist()):
        print(f"{specification}: no clip of actors {listed(sorted(missing))}: results are not comparable with EmoBox's")
    clips = without_audio(rows)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for fold, test in enumerate(EMOBOX_TEST_ACTORS):
        chosen = {"test": set(test), "validation": set(EMOBOX_TEST_ACTORS[(fold + 1) % len(EMOBOX_TEST_ACTORS)])}
        chosen["train"] = ACTORS - chosen["test"] - chosen["validation"]
        parts = {part: np.flatnonzero(np.isin(actors, list(chosen[part]))) for part in ("train", "validation", "test")}
        if empty := [part for part, rows in parts.items() if not len(rows)]:
            raise SplitError(f"{specification}: fold {fold + 1} has no clip for {listed(empty)}")
        paths.append(folder / f"fold_{fold + 1}.json")
        settings = {"fold": fold, "folds": len(EMOBOX_TEST_ACTORS)}
        save_splits(parts_of(clips, "emobox", settings, parts), paths[-1])
    return paths


@errors_in_one_line()
def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    print(*write_folds(sys.argv[1], Path(sys.argv[2])), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
