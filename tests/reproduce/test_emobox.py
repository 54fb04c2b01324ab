"""EmoBox's folds of RAVDESS: written, and read back by a run."""

import json
from pathlib import Path

import pytest
from emobox import write_folds
from experiments import RECIPES
from published import EMOBOX_TEST_ACTORS
from small_files import write_clip

from hf_ser.splits import SplitError, describe, speakers_of
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import read_recipe, recipe_words
from hf_ser.training.data import load_splits


def test_a_run_reads_a_fold_back(tmp_path: Path) -> None:
    for actor in range(1, 25):
        for emotion in (3, 4):
            write_clip(tmp_path / "RAVDESS" / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-01-{actor:02}.wav")
    corpus = f"ravdess={tmp_path / 'RAVDESS'}"
    paths = write_folds(corpus, tmp_path / "splits")
    recipe = read_recipe(RECIPES / "emobox/ravdess.yaml")
    assert [Path(path).name for path in recipe.pop("sweep")["splits"]] == [path.name for path in paths]
    parts = []
    for fold, path in enumerate(paths):
        assert json.loads(path.read_text())["shared_speakers"] == []
        arguments = parse_arguments([*recipe_words(recipe), "--corpora", corpus, "--splits", str(path)])
        made = load_splits(arguments.script, 400)
        found = describe(made)
        assert (found["name"], found["made_as"], found["fold"], found["folds"]) == ("file", "emobox", fold, 6)
        assert [found["parts"][part]["clips"] for part in ("train", "validation", "test")] == [32, 8, 8]
        parts.append([sorted(int(name[-2:]) for name in speakers_of(made[part])) for part in ("test", "validation")])
    assert [test for test, _ in parts] == EMOBOX_TEST_ACTORS
    assert [validation for _, validation in parts] == [*EMOBOX_TEST_ACTORS[1:], EMOBOX_TEST_ACTORS[0]]


def test_folds_with_some_of_the_actors(
    tmp_path: Path, lists: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Path(lists["ravdess"]).read_text().splitlines()
    files = tmp_path / "RAVDESS.txt"
    files.write_text("\n".join(line for line in lines if int(line[6:8]) <= 22))
    paths = write_folds(f"ravdess={files}", tmp_path / "splits")
    assert "no clip of actors 23 and 24: results are not comparable with EmoBox's" in capsys.readouterr().out
    assert len(json.loads(paths[2].read_text())["parts"]["test"]) == 3 * 60  # actors 8, 9, 19 of 8, 9, 19, 23
    files.write_text("\n".join(line for line in lines if int(line[6:8]) not in EMOBOX_TEST_ACTORS[0]))
    with pytest.raises(SplitError, match="fold 1 has no clip for test"):
        write_folds(f"ravdess={files}", tmp_path / "splits")
