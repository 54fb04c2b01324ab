"""Models that are trained on one corpus and tested on others."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_ser.claims import sole_use
from hf_ser.corpora import CorpusError, Row, read, to_dataset
from hf_ser.emotions import EmotionSelection
from hf_ser.training import parse_arguments
from hf_ser.training.cross_corpus import as_markdown, settings, shared_emotions
from hf_ser.training.cross_validation import plan

Python = Callable[..., "subprocess.CompletedProcess[str]"]


def corpus(name: str, emotions: list[str]) -> Any:
    return to_dataset([Row(f"{n}.wav", str(n), emotion) for n, emotion in enumerate(emotions)], name)


def test_the_emotions_that_all_corpora_have() -> None:
    corpora = [corpus("a", ["angry", "happy", "sad", "calm"]), corpus("b", ["happy", "angry", "neutral", "boredom"])]
    assert shared_emotions(corpora, EmotionSelection.parse([])) == ["angry", "happy"]
    assert shared_emotions(corpora, EmotionSelection.parse(["calm=neutral"])) == ["angry", "happy", "neutral"]
    with pytest.raises(
        CorpusError, match=r"expected happy and sad in every corpus; a has happy and sad; b has happy\."
    ):
        shared_emotions(corpora, EmotionSelection.parse(["happy", "sad"]))
    with pytest.raises(CorpusError, match=r"expected two emotions at least in every corpus; a has .*; c has fear\."):
        shared_emotions([*corpora, corpus("c", ["fear"])], EmotionSelection.parse([]))


def test_each_corpus_trains_or_all_but_one() -> None:
    assert settings(["a", "b", "c"], leave_one_out=False) == [["a"], ["b"], ["c"]]
    assert settings(["a", "b", "c"], leave_one_out=True) == [["b", "c"], ["a", "c"], ["a", "b"]]


def test_a_corpus_with_the_name_of_a_file_that_has_a_space(tmp_path: Path) -> None:
    """Trap: `manifest=my clips.csv` is the corpus `my clips`, and its runs looked for `my` and `clips`."""
    argv = ["--output_dir", str(tmp_path), "--split", "cross_corpus"]
    runs = plan(argv, parse_arguments(argv), {"train_corpora": [["my clips"], ["a", "my clips"]]}, None)
    assert [parse_arguments(run.argv).script.train_corpora for run in runs] == [["my clips"], ["a", "my clips"]]
    assert [run.folder.parent.name for run in runs] == ["my_clips", "a_my_clips"]


def test_a_matrix_as_a_table() -> None:
    def cell(uar: float, **more: Any) -> dict[str, Any]:
        return {"uar": uar, "interval": {"by": "clips", "uar": [uar - 0.1, uar + 0.1]}, "clips": 9, **more}

    few = {"uar": 0.3, "interval": None, "clips": 1}
    table = [{"train": ["a"], "test": {"a": cell(0.75), "b": cell(0.5)}}, {"train": ["b", "c"], "test": {"b": few}}]
    assert as_markdown(table).splitlines()[2:] == [
        "| a | 75.0 (65.0 to 85.0) | 50.0 (40.0 to 60.0) |",
        "| b+c | - | 30.0 |",
    ]
    table = [{"train": ["a"], "test": {"b": cell(0.5, normalised={"by": "speaker", **cell(0.6)})}}]
    assert as_markdown(table).splitlines() == [
        "| trained on | tested on b | b, normalised by speaker |",
        "| --- | --- | --- |",
        "| a | 50.0 (40.0 to 60.0) | 60.0 (50.0 to 70.0) |",
    ]
    # Of runs that went on with another unit each stands in its own column.
    table = [
        {"train": [unit[0]], "test": {"b": {**few, "normalised": {"by": unit, **few}}}}
        for unit in ("speaker", "corpus")
    ]
    assert as_markdown(table).splitlines() == [
        "| trained on | tested on b | b, normalised by corpus | b, normalised by speaker |",
        "| --- | --- | --- | --- |",
        "| s | 30.0 | - | 30.0 |",
        "| c | 30.0 | 30.0 | - |",
    ]


@pytest.mark.usefixtures("train_here")
def test_from_the_command_line(tmp_path: Path, speech: Path, tiny_hubert: Path, run_script: Python) -> None:
    [rows] = read(f"synthetic={speech}")
    halves = sorted(set(rows["speaker"][:]))[::2]
    for name, inside in (("lab", True), ("field", False)):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "emotion", "speaker"))
            writer.writerows(
                (row["audio"]["path"], row["emotion"], row["speaker"])
                for row in rows
                if (row["speaker"] in halves) == inside and row["emotion"] in ("happy", "sad", "angry")
            )
    words = (
        "--corpora", f"manifest={tmp_path / 'lab.csv'}", f"manifest={tmp_path / 'field.csv'}",
        "--model_name_or_path", tiny_hubert, "--method", "probe", "--normalise_by", "corpus", "--output_dir", tmp_path / "runs",
    )  # fmt: skip
    with sole_use(tmp_path / "runs"):
        refused = run_script("cross_corpus", *words)
    assert f"error: output_dir: another process trains in '{tmp_path / 'runs'}'" in refused.stderr
    done = run_script("cross_corpus", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| trained on | tested on lab | tested on field | lab, normalised by corpus |" in done.stdout
    first, second = json.loads((tmp_path / "runs/cross_corpus.json").read_text())
    assert (first["train"], first["emotions"], first["method"]) == (["lab"], ["angry", "happy", "sad"], "probe")
    # Of the corpus that trains, one of three speakers is tested; of the other, all.
    assert {corpus: found["clips"] for corpus, found in first["test"].items()} == {"lab": 6, "field": 18}
    assert {corpus: found["clips"] for corpus, found in second["test"].items()} == {"field": 6, "lab": 18}
    assert (tmp_path / "runs/cross_corpus.png").stat().st_size > 1000
    results = json.loads((tmp_path / "runs/lab/fold-0-seed-42/results.json").read_text())
    assert results["split"]["train_corpora"] == ["lab"]
    assert results["metrics"]["test_field"]["uar"] == first["test"]["field"]["uar"]
    card = (tmp_path / "runs/lab/fold-0-seed-42/README.md").read_text()
    assert (
        "trained on lab, of which every speaker is in one part only; each other corpus is a test part of its own"
        in card
    )
    for row in ("| test_field | 18 |", "| test_field, normalised by corpus | 18 |"):
        assert row in card
