"""The results of a run: one file, whose version and fields are checked when it is read."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hf_ser.results import RunResults

EXAMPLE = Path(__file__).parents[1] / "model_cards/hubert-mini-ravdess-full"
CONTENT = json.loads((EXAMPLE / "results.json").read_text(encoding="utf-8"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = RunResults.read(EXAMPLE)
    assert results.to_dict() == CONTENT
    assert (results.corpora["ravdess"].clips, results.kept.epoch, results.test["clips"]) == (1079, 3.0, 239)
    results.write(tmp_path)
    assert RunResults.read(tmp_path) == RunResults.read(tmp_path / "results.json") == results


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "of version 2, expected 1"),
        ({"kept": {"value": 1}}, "results.json, kept: not as hf_ser writes it: it has no by, epoch"),
        ({"training": 3}, "training: not as hf_ser writes it: expected an object, found int"),
        ({"corpora": {"a": {}}}, "corpora: not as hf_ser writes it: it has no clips, speakers"),
    ],
)
def test_another_version_and_missing_fields_are_named(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(CONTENT | change))
    with pytest.raises(ValueError, match=rf"{tmp_path}.*{says}"):
        RunResults.read(tmp_path)


def test_a_file_without_version_and_optional_fields(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(
        json.dumps({key: CONTENT[key] for key in CONTENT if key not in ("version", "probe")})
    )
    results = RunResults.read(tmp_path)
    assert (results.probe, results.identity, results.training.energy_kwh) == (None, None, None)
    (tmp_path / "results.json").write_text('{"method": "full"}')
    with pytest.raises(
        ValueError, match=r"results\.json: not as hf_ser writes it: it has no base_model, base_model_on_hub"
    ):
        RunResults.read(tmp_path)


def test_the_arguments_in_which_two_runs_differ(tmp_path: Path) -> None:
    RunResults.read(EXAMPLE).write(tmp_path)
    (tmp_path / "run.json").write_text('{"seed": 1, "method": "full", "old": 3}')
    results = RunResults.read(tmp_path)
    assert results.differences({"seed": 2, "method": "full", "new": 4}) == {"seed": (1, 2)}
    assert "identity" not in results.to_dict()


@pytest.mark.parametrize(
    ("part", "of", "shared", "expected"),
    [
        ("test", "validation", 0, 0),
        ("test", "train", 0, None),
        ("test", "test", 0, None),
        ("test", "train", 2, 2),
        ("validation", "validation", 0, None),
        ("test2", "train", None, None),  # no such part
    ],
)
def test_the_speakers_that_parts_share_are_known_if_those_of_their_clips_are(
    part: str, of: str, shared: int | None, expected: int | None
) -> None:
    """Some clips `of` a part have no speaker."""
    content = copy.deepcopy(CONTENT)
    content["split"]["parts"][of]["clips_without_speaker"] = 1
    content["split"][f"speakers_shared_by_train_and_{part}"] = shared
    assert RunResults.from_dict(content).shared_speakers(part) == expected
