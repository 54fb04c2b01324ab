"""What is saved is read back by those who read such files."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from praatio import textgrid

from hf_ser.inference import EmotionSegment, Prediction, PredictionFile, Timeline, save

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
SEGMENTS = TIMELINE.segments()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_predictions(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        save(iter(PREDICTIONS), tmp_path / f"p.{suffix}")
    bad, good, last = rows(tmp_path / "p.csv")
    assert bad == {"name": "broken.wav", "duration": "0.0", "emotion": "", "happy": "", "sad": "",
                   "problem": "unreadable: no audio, at all"}  # fmt: skip
    assert (good["name"], good["emotion"], good["happy"]) == (PREDICTIONS[1].name, "happy", "0.75")
    assert float(last["sad"]) == pytest.approx(2 / 3, abs=1e-6)
    assert lines(tmp_path / "p.jsonl") == json.loads((tmp_path / "p.json").read_text())
    assert lines(tmp_path / "p.jsonl")[1] == {
        "name": PREDICTIONS[1].name, "duration": 1.25, "emotion": "happy",
        "probabilities": {"happy": 0.75, "sad": 0.25}, "problem": None,
    }  # fmt: skip


def test_a_timeline_is_a_line_for_each_window(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        save(TIMELINE, tmp_path / f"t.{suffix}")
    table = rows(tmp_path / "t.csv")
    assert list(table[0]) == ["start", "stop", "happy", "sad"]
    assert [row["happy"] for row in table] == ["0.9", "0.2", "", "0.6"]
    content = json.loads((tmp_path / "t.json").read_text(), parse_constant=pytest.fail)
    assert content["duration"] == 3.4
    assert content["windows"] == lines(tmp_path / "t.jsonl")
    assert content["windows"][2] == {"start": 2, "stop": 3, "happy": None, "sad": None}
    assert [segment["emotion"] for segment in content["segments"]] == ["happy", "sad", "silence", "happy"]


def test_segments(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl", "txt", "TextGrid"):
        save(SEGMENTS, tmp_path / f"s.{suffix}")
    expected = [(round(each.start, 6), round(each.stop, 6), each.emotion) for each in SEGMENTS]
    table = [(float(row["start"]), float(row["stop"]), row["emotion"]) for row in rows(tmp_path / "s.csv")]
    assert table == expected
    assert [row["probability"] for row in rows(tmp_path / "s.csv")][2:] == ["", "0.6"]
    entries = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)
    assert entries == lines(tmp_path / "s.jsonl")
    assert [(each["start"], each["stop"], each["emotion"]) for each in entries] == expected
    labels = [line.split("\t") for line in (tmp_path / "s.txt").read_text().splitlines()]
    assert [(float(a), float(b), word) for a, b, word in labels] == expected


@pytest.mark.parametrize("result", [SEGMENTS, TIMELINE])
def test_praat_reads_the_segments(tmp_path: Path, result: Any) -> None:
    save(result, tmp_path / "s.TextGrid")
    grid = textgrid.openTextgrid(str(tmp_path / "s.TextGrid"), includeEmptyIntervals=True, reportingMode="error")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 3.4)
    (tier,) = grid.tiers
    assert tier.name == "emotion"
    assert [tuple(entry) for entry in tier.entries] == [(each.start, each.stop, each.emotion) for each in SEGMENTS]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("precious")
    for result in (SEGMENTS, TIMELINE, PREDICTIONS):
        with pytest.raises(FileExistsError, match=r"s\.csv' is there already"):
            save(result, path)
        assert path.read_text() == "precious"
        save(result, path, overwrite=True)
        assert path.read_text() != "precious"
        path.write_text("precious")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of \.csv, \.jsonl, \.json, found '\.TextGrid'"):
        save(PREDICTIONS, tmp_path / "p.TextGrid")
    with pytest.raises(ValueError, match=r"must be one of .*\.txt, \.TextGrid, found '\.xlsx'"):
        save(TIMELINE, tmp_path / "p.xlsx")
    with pytest.raises(ValueError, match="there is nothing to write"):
        save([], tmp_path / "p.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*missing'; make it first"):
        save(SEGMENTS, tmp_path / "missing" / "s.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_lines_are_there_at_once_and_gone_on_with(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    with PredictionFile(path, EMOTIONS) as file:
        file.write(PREDICTIONS[0])
        file.write(PREDICTIONS[1])
        half = path.read_bytes()
    path.write_bytes(half + b'{"name": "z.wav,0.')  # killed within a line
    with PredictionFile(path, EMOTIONS, resume=True) as file:
        assert file.names == {PREDICTIONS[0].name, PREDICTIONS[1].name}
        file.write(PREDICTIONS[2])
    save(PREDICTIONS, tmp_path / f"whole.{suffix}")
    assert path.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_only_predictions_of_the_same_emotions_are_gone_on_with(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    save(PREDICTIONS, path)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot be gone on with: its (columns|emotions) are .*sad.*angry"):
        PredictionFile(path, ("angry", "calm"), resume=True)
    assert path.read_bytes() == kept
    path.write_text("some other file\nthat has two lines\n")
    with pytest.raises(ValueError, match="cannot be gone on with"):
        PredictionFile(path, EMOTIONS, resume=True)
    assert path.read_text() == "some other file\nthat has two lines\n"
    with PredictionFile(tmp_path / f"new.{suffix}", EMOTIONS, resume=True) as file:
        assert file.names == frozenset()
    with pytest.raises(ValueError, match=r"must be one of \.csv, \.jsonl, found '\.json'"):
        PredictionFile(tmp_path / "p.json", EMOTIONS, resume=True)


def interrupted(path: Path, predictions: list[Prediction]) -> None:
    """Ctrl-C, after these predictions."""

    def write() -> None:
        with PredictionFile(path, EMOTIONS, overwrite=True) as file:
            for prediction in predictions:
                file.write(prediction)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_what_is_to_be_replaced_stays_until_there_is_something_to_replace_it_with(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    save(PREDICTIONS, path)
    old = path.read_bytes()
    interrupted(path, [])
    assert path.read_bytes() == old
    interrupted(path, PREDICTIONS[1:2])
    save(PREDICTIONS[1:2], tmp_path / f"one.{suffix}")
    # A list that ends early looks like one that is whole; of a table the lines that there are can be gone on with.
    assert path.read_bytes() == (old if suffix == "json" else (tmp_path / f"one.{suffix}").read_bytes())
    save(PREDICTIONS[1:2], path, overwrite=True)
    assert path.read_bytes() == (tmp_path / f"one.{suffix}").read_bytes()
    with PredictionFile(path, EMOTIONS, overwrite=True):
        pass
    assert (json.loads(path.read_text()) if suffix == "json" else rows(path) if suffix == "csv" else lines(path)) == []
    assert {each.name for each in tmp_path.iterdir()} == {path.name, f"one.{suffix}"}


def test_a_list_that_was_interrupted_is_not_there(tmp_path: Path) -> None:
    interrupted(tmp_path / "p.json", PREDICTIONS[1:2])
    assert not list(tmp_path.iterdir())


def test_a_list_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "p.json")
    save(PREDICTIONS, tmp_path / "link.json", overwrite=True)
    save(PREDICTIONS, tmp_path / "link.json", overwrite=True)
    assert (tmp_path / "link.json").is_symlink()
    assert len(json.loads((tmp_path / "p.json").read_text())) == len(PREDICTIONS)


def test_segments_of_a_generator(tmp_path: Path) -> None:
    save((EmotionSegment(i, i + 1, "sad", 0.5) for i in range(3)), tmp_path / "s.txt")
    assert (tmp_path / "s.txt").read_text().count("sad") == 3


def test_a_timelines_segments_are_merged_as_asked(tmp_path: Path) -> None:
    merged = TIMELINE.segments(0.7)
    assert len(merged) < len(SEGMENTS)
    for suffix in ("json", "txt"):
        save(TIMELINE, tmp_path / f"t.{suffix}", minimum=0.7)
    content = json.loads((tmp_path / "t.json").read_text())
    assert [segment["stop"] for segment in content["segments"]] == pytest.approx([each.stop for each in merged])
    assert len(content["windows"]) == 4
    assert (tmp_path / "t.txt").read_text().count("\n") == len(merged)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_predictions_of_another_model_are_not_gone_on_with(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    with PredictionFile(path, EMOTIONS, model="user/a") as file:
        file.write(PREDICTIONS[0])
        file.write(PREDICTIONS[1])
    found = rows(path) if suffix == "csv" else lines(path)
    assert [row["model"] for row in found] == ["user/a", "user/a"]
    kept = path.read_bytes()
    for model in ("user/b", None):
        with pytest.raises(ValueError, match=r"cannot be gone on with: .*(user/a|model)"):
            PredictionFile(path, EMOTIONS, model=model, resume=True)
        assert path.read_bytes() == kept
    with PredictionFile(path, EMOTIONS, model="user/a", resume=True) as file:
        assert PREDICTIONS[1].name in file
        assert PREDICTIONS[2].name not in file
    save(PREDICTIONS, tmp_path / f"unnamed.{suffix}")
    with pytest.raises(ValueError, match="cannot be gone on with"):
        PredictionFile(tmp_path / f"unnamed.{suffix}", EMOTIONS, model="user/a", resume=True)


def test_a_file_is_the_same_by_whichever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("clips/a.wav", str(tmp_path / "b.wav"), "dataset=saved/train/0", "dataset=user/clips/train/0")
    with PredictionFile(Path("p.csv"), EMOTIONS) as file:
        for name in names:
            file.write(Prediction(name, 1.0, {"happy": 0.75, "sad": 0.25}))
    with PredictionFile(Path("p.csv"), EMOTIONS, resume=True) as file:
        for name in (
            *names,
            tmp_path / "clips" / "a.wav",
            "./clips/../clips/a.wav",
            "b.wav",
            f"dataset={tmp_path}/saved/train/0",
        ):
            assert str(name) in file
        for name in ("a.wav", "clips/b.wav", "dataset=saved/train/1", "saved/train/0"):
            assert name not in file


def test_a_table_that_was_cut_within_a_name_with_a_line_break_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    odd = Prediction('two "lines"\n\r\nof, name.wav', 1.0, {"happy": 0.75, "sad": 0.25})
    with PredictionFile(path, EMOTIONS) as file:
        file.write(PREDICTIONS[1])
        start = len(path.read_bytes())
        file.write(odd)
    whole = path.read_bytes()
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        with PredictionFile(path, EMOTIONS, resume=True) as file:
            assert PREDICTIONS[1].name in file
            if odd.name not in file:
                assert cut < len(whole)
                file.write(odd)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_name_that_is_no_unicode_is_written_all_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    name = os.fsdecode(b"bad\xff.wav")
    with PredictionFile(path, EMOTIONS) as file:
        file.write(Prediction(name, 1.0, {"happy": 0.75, "sad": 0.25}))
    entries = {"csv": rows, "jsonl": lines}.get(suffix, lambda path: json.loads(path.read_text(encoding="utf-8")))(path)
    assert [entry["name"] for entry in entries] == ["bad\\udcff.wav"]
    if suffix != "json":
        with PredictionFile(path, EMOTIONS, resume=True) as file:
            assert name in file
