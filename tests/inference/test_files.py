"""Saved files are read back by the programs that read such files; a table of predictions can be continued."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from praatio import textgrid

from hf_ser.inference.clips import Prediction
from hf_ser.inference.files import PredictionFile, save
from hf_ser.inference.timelines import Timeline

EMOTIONS = ("happy", "sad")
PREDICTIONS = [
    Prediction("broken.wav", 0.0, {}, "unreadable: no audio, at all"),
    Prediction('a "good", naïve one.wav', 1.25, {"happy": 0.75, "sad": 0.25}),
    Prediction("z.wav", 2.5, {"happy": 1 / 3, "sad": 2 / 3}),
]
TIMELINE = Timeline(
    EMOTIONS,
    np.array([0.0, 1.0, 2.0, 2.4]),
    np.array([1.0, 2.0, 3.0, 3.4]),
    np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan], [0.6, 0.4]]),
    3.4,
)
SEGMENTS = TIMELINE.segments


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


def write(path: Path, predictions: list[Prediction], model: str = "user/a", *, resume: bool = False) -> None:
    file = PredictionFile(path, EMOTIONS, model, resume=resume)
    for prediction in predictions:
        file.write(prediction)


def test_predictions(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        save(PREDICTIONS, tmp_path / f"p.{suffix}")
    bad, good, last = rows(tmp_path / "p.csv")
    assert bad == {"name": "broken.wav", "duration": "0.0", "emotion": "", "happy": "", "sad": "",
                   "problem": "unreadable: no audio, at all"}  # fmt: skip
    assert (good["name"], good["emotion"], good["happy"]) == (PREDICTIONS[1].name, "happy", "0.75")
    assert float(last["sad"]) == pytest.approx(2 / 3, abs=1e-6)
    assert rows(tmp_path / "p.jsonl") == rows(tmp_path / "p.json")
    assert rows(tmp_path / "p.jsonl")[1] == {
        "name": PREDICTIONS[1].name, "duration": 1.25, "emotion": "happy", "happy": 0.75, "sad": 0.25, "problem": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "txt", "TextGrid"])
def test_a_file_is_there_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = tmp_path / f"s.{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            save(SEGMENTS, path)
    assert not path.exists()
    save(SEGMENTS, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_timeline_has_a_row_for_each_window_and_its_segments_one_each(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        save(TIMELINE, tmp_path / f"t.{suffix}")
        save(SEGMENTS, tmp_path / f"s.{suffix}")
    assert list(rows(tmp_path / "t.csv")[0]) == ["start", "stop", "happy", "sad"]
    assert [row["happy"] for row in rows(tmp_path / "t.csv")] == ["0.9", "0.2", "", "0.6"]
    assert rows(tmp_path / "t.json")[2] == {"start": 2, "stop": 3, "happy": None, "sad": None}
    expected = [(round(each.start, 6), round(each.stop, 6), each.emotion) for each in SEGMENTS]
    assert [tuple(row.values())[:3] for row in rows(tmp_path / "s.json")] == expected
    assert [row["probability"] for row in rows(tmp_path / "s.csv")][2:] == ["", "0.6"]
    for name in "ts":
        assert rows(tmp_path / f"{name}.json") == rows(tmp_path / f"{name}.jsonl")


@pytest.mark.parametrize("result", [SEGMENTS, TIMELINE])
def test_audacity_and_praat_read_the_segments(tmp_path: Path, result: Any) -> None:
    expected = [(round(each.start, 6), round(each.stop, 6), each.emotion) for each in SEGMENTS]
    save(result, tmp_path / "s.txt")
    labels = [line.split("\t") for line in (tmp_path / "s.txt").read_text().splitlines()]
    assert [(float(a), float(b), word) for a, b, word in labels] == expected
    save(result, tmp_path / "s.TextGrid")
    grid = textgrid.openTextgrid(str(tmp_path / "s.TextGrid"), includeEmptyIntervals=True, reportingMode="error")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 3.4)
    (tier,) = grid.tiers
    assert tier.name == "emotion"
    assert [tuple(entry) for entry in tier.entries] == [(each.start, each.stop, each.emotion) for each in SEGMENTS]


def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    for result in (SEGMENTS, TIMELINE, PREDICTIONS):
        path.write_text("precious")
        with pytest.raises(FileExistsError, match=r"s\.csv' exists"):
            save(result, path)
        assert path.read_text() == "precious"
        save(result, path, overwrite=True)
        assert path.read_text() != "precious"


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of \.csv, \.jsonl, \.json, found '\.TextGrid'"):
        save(PREDICTIONS, tmp_path / "p.TextGrid")
    with pytest.raises(ValueError, match=r"must be one of .*\.txt, \.TextGrid, found '\.xlsx'"):
        save(TIMELINE, tmp_path / "p.xlsx")
    with pytest.raises(ValueError, match="expected predictions or segments, found none"):
        save([], tmp_path / "p.csv")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(SEGMENTS, tmp_path / "nowhere" / "s.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_that_was_cut_within_a_row_is_continued(tmp_path: Path, suffix: str) -> None:
    """Also within a name with line breaks and quotes, whatever byte is the last."""
    path = tmp_path / f"p.{suffix}"
    odd = Prediction('two "lines"\n\r\nof, name.wav', 1.0, {"happy": 0.75, "sad": 0.25})
    write(path, PREDICTIONS[:1])
    start = len(path.read_bytes())
    write(path, [odd], resume=True)
    whole = path.read_bytes()
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        file = PredictionFile(path, EMOTIONS, "user/a", resume=True)
        assert PREDICTIONS[0].name in file
        assert PREDICTIONS[1].name not in file
        if odd.name not in file:
            assert cut < len(whole)
            file.write(odd)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_is_continued_with_the_same_model_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    write(path, PREDICTIONS)
    assert {row["model"] for row in rows(path)} == {"user/a"}
    kept = path.read_bytes()
    for emotions, model in ((EMOTIONS, "user/b"), (("angry", "calm"), "user/a")):
        with pytest.raises(ValueError, match=r"cannot be continued: .*(user/b|angry, calm)"):
            PredictionFile(path, emotions, model, resume=True)
        assert path.read_bytes() == kept
    path.write_text("some other file\nthat has two lines\n")
    with pytest.raises(ValueError, match="cannot be continued"):
        PredictionFile(path, EMOTIONS, "user/a", resume=True)
    assert path.read_text() == "some other file\nthat has two lines\n"


def test_a_file_that_is_replaced_stays_until_the_first_prediction(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write(path, PREDICTIONS)
    old = path.read_bytes()
    file = PredictionFile(path, EMOTIONS, "user/b")
    assert path.read_bytes() == old
    file.write(PREDICTIONS[1])
    assert [row["model"] for row in rows(path)] == ["user/b"]


def test_a_file_is_the_same_by_whichever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("clips/a.wav", str(tmp_path / "b.wav"), "dataset=saved/train/0", "dataset=user/clips/train/0")
    write(Path("p.csv"), [Prediction(name, 1.0, {"happy": 0.75, "sad": 0.25}) for name in names])
    file = PredictionFile(Path("p.csv"), EMOTIONS, "user/a", resume=True)
    absolute = (f"{tmp_path}/clips/a.wav", "./clips/../clips/a.wav", "b.wav", f"dataset={tmp_path}/saved/train/0")
    assert all(name in file for name in (*names, *absolute))
    assert not any(name in file for name in ("a.wav", "clips/b.wav", "dataset=saved/train/1", "saved/train/0"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_name_that_is_no_unicode_is_written_all_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    name = os.fsdecode(b"bad\xff.wav")
    save([Prediction(name, 1.0, {"happy": 0.75, "sad": 0.25})], path)
    assert [row["name"] for row in rows(path)] == ["bad\\udcff.wav"]


def test_dimensions_have_columns_behind_the_probabilities(tmp_path: Path) -> None:
    dimensions = {"arousal": 0.25}
    save(
        [Prediction("a.wav", 1.0, {"happy": 1.0}, None, dimensions), Prediction("b.wav", 0.0, {}, "empty: none")],
        tmp_path / "p.csv",
    )
    assert list(rows(tmp_path / "p.csv")[0].items())[2:5] == [
        ("emotion", "happy"),
        ("happy", "1.0"),
        ("arousal", "0.25"),
    ]
    line = replace(TIMELINE, dimensions=("arousal",), values=np.array([[0.1], [0.2], [np.nan], [0.4]]), smoothing=0.0)
    save(line, tmp_path / "t.csv")
    assert [row["arousal"] for row in rows(tmp_path / "t.csv")] == ["0.1", "0.2", "", "0.4"]
