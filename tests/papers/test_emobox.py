"""EmoBox's folds of RAVDESS: written, and read back by a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hf_ser.papers import emobox
from hf_ser.papers.figures import emobox_test_actors
from hf_ser.splits import PARTS, SplitError
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import recipe_words
from hf_ser.training.clips import load_clips

RECIPE = Path(__file__).parents[2] / "scripts" / "recipes" / "emobox" / "ravdess.yaml"


@pytest.fixture
def listed(shared: Path) -> str:
    return f"ravdess={shared / 'data' / 'file-lists' / 'RAVDESS.txt'}"


def test_six_folds_of_four_unseen_actors(listed: str) -> None:
    clips = emobox.read_clips(listed)
    splits = emobox.make_splits(clips)
    for fold, split in enumerate(splits):
        assert {part: len(rows) for part, rows in split.parts.items()} == {"test": 240, "validation": 240, "train": 960}
        assert split.shared_speakers(clips) == []
        speakers = split.speakers(clips)
        assert speakers["test"] == {f"ravdess_{actor:02}" for actor in emobox_test_actors()[fold]}
        assert speakers["validation"] == splits[(fold + 1) % 6].speakers(clips)["test"]
        assert len(speakers["train"]) == 16
    assert emobox.explain(clips) == "all 24 actors are there"


def test_missing_actors_are_told(tmp_path: Path, listed: str) -> None:
    lines = Path(listed.partition("=")[2]).read_text().splitlines()
    part = tmp_path / "RAVDESS.txt"
    part.write_text("\n".join(line for line in lines if int(line[6:8]) <= 18))
    clips = emobox.read_clips(f"ravdess={part}")
    assert emobox.missing_actors(clips) == [19, 20, 21, 22, 23, 24]
    assert emobox.explain(clips).startswith(
        "actors 19, 20, 21, 22, 23 and 24 of RAVDESS are missing: the test parts of folds 1, 3, 4 and 6 and all train"
    )
    assert [len(split.speakers(clips)["test"]) for split in emobox.make_splits(clips)] == [2, 4, 2, 3, 4, 3]

    part.write_text("\n".join(line for line in lines if int(line[6:8]) in (1, 4, 8)))
    with pytest.raises(SplitError, match="EmoBox's fold 3: no clip for validation; of its actors 3, 5, 7, 24 none is"):
        emobox.make_splits(emobox.read_clips(f"ravdess={part}"))


def test_a_run_reads_a_fold_back(tmp_path: Path, write_clip: Callable[..., Path]) -> None:
    for actor in range(1, 25):
        for emotion in (3, 4):
            write_clip(tmp_path / "RAVDESS" / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-01-{actor:02}.wav")
    corpus = f"ravdess={tmp_path / 'RAVDESS'}"
    paths = emobox.write_splits(emobox.read_clips(corpus), tmp_path / "splits")
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    assert [Path(path).name for path in recipe.pop("sweep")["splits"]] == [path.name for path in paths]
    tested = []
    for fold, path in enumerate(paths):
        assert json.loads(path.read_text())["shared_speakers"] == []
        arguments = parse_arguments([*recipe_words(recipe), "--corpora", corpus, "--splits", str(path)])
        clips = load_clips(arguments.data, 400)
        assert {part: len(clips.split.parts[part]) for part in PARTS} == {"train": 32, "validation": 8, "test": 8}
        found = clips.split.describe(clips.table)
        assert (found["name"], found["made_as"], found["fold"], found["folds"]) == ("file", "emobox", fold, 6)
        assert found["speakers_shared_by_train_and_test"] == 0
        tested += sorted(int(speaker[-2:]) for speaker in clips.split.speakers(clips.table)["test"])
    assert tested == [actor for fold in emobox_test_actors() for actor in fold]
