"""The measurement of scale on as few clips as it takes. Nothing here says how fast anything is."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_ser.audio import prepare
from hf_ser.benchmark import SCALE_RESULTS, measure_scales, save_scales, scale, scale_table, tasks
from hf_ser.corpora import read_corpora


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return measure_scales([800, 400], run=tasks.run)


def test_every_stage_of_every_size_is_measured(report: dict[str, Any]) -> None:
    assert [one["clips"] for one in report["sizes"]] == [400, 800]
    for one in report["sizes"]:
        assert list(one["stages"]) == list(scale.STAGES) == list(report["stages"])
        for name in ("read", "prepare", "open", "select", "split", "save", "cut"):
            stage = one["stages"][name]
            assert stage["microseconds"] == pytest.approx(1e6 * stage["seconds"] / one["clips"])
        assert one["disk"] > 1000 * one["clips"]
        assert all(stage["peak"] is None or stage["peak"] >= stage["held"] for stage in one["stages"].values())


def test_it_is_saved_and_shown(report: dict[str, Any], tmp_path: Path) -> None:
    save_scales(report, tmp_path)
    assert json.loads((tmp_path / SCALE_RESULTS).read_text()) == report
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    text = scale_table(report)
    for stage in scale.STAGES:
        assert f"\n{stage} " in text
    assert "400         800  clips" in text


def test_the_made_up_clips_are_as_they_are_said_to_be(tmp_path: Path) -> None:
    rows = prepare(read_corpora([f"manifest={scale.write(tmp_path / 'clips', 400)}"]), tmp_path / "cache", 1)
    assert rows["problem"][:].count("empty") == 2
    hashes = [digest for digest in rows["samples_hash"][:] if digest]
    assert len(hashes) - len(set(hashes)) == 4
    assert len(set(rows["speaker"][:])) == 5
    lengths = [seconds for seconds in rows["duration"][:] if seconds]
    assert min(lengths) >= 0.05
    assert max(lengths) <= 0.15


def test_a_corpus_that_is_too_small_for_a_batch() -> None:
    with pytest.raises(ValueError, match=r"--scale: needs corpora of 400 clips at least, found 10"):
        measure_scales([1000, 10], run=tasks.run)
