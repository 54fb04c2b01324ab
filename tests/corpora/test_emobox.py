"""EmoBox's folds of a corpus, from the files of its repository."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_files import write_clip

from hf_ser.cli import corpora
from hf_ser.clips import load_corpora, without_audio
from hf_ser.corpora import CorpusError, read
from hf_ser.splits import SplitError, official_split
from hf_ser.splits.audit import SharedByParts, audit_emobox

#: Two sentences of three actors: name of the file, EmoBox's word for the emotion, speaker.
CLIPS = [
    (f"wav/{speaker}{text}{letter}a", word, speaker)
    for speaker in ("03", "08", "09")
    for text in ("a01", "a02")
    for letter, word in (("W", "anger"), ("F", "happy"))
]


def write_metadata(root: Path, corpus: str, folds: list[dict[str, list[int]]]) -> Path:
    """A corpus of EmoBox's repository; each fold has for each part the indices of its clips."""
    folder = root / "data" / corpus
    for number, fold in enumerate(folds, 1):
        (folder / f"fold_{number}").mkdir(parents=True)
        for part, indices in fold.items():
            lines = [
                {
                    "key": f"{corpus}-{Path(CLIPS[i][0]).name}", "dataset": corpus, "wav": f"downloads/{corpus}/{CLIPS[i][0]}.wav",
                    "type": "raw", "sample_rate": 16000, "num_frame": 1600.0, "task": "category", "length": 0.1,
                    "emo": CLIPS[i][1], "channel": 1,
                }
                for i in indices
            ]  # fmt: skip
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"fold_{number}/{corpus}_{part}_fold_{number}.jsonl").write_text(text, encoding="utf-8")
    keys = [(f"{corpus}-{Path(name).name}", word, speaker) for name, word, speaker in CLIPS]
    lines = [
        f"{key} 1 {speaker} 0 0.1 <id={key},lang=en,spk={speaker},emotion={word}> {word}\n"
        for key, word, speaker in keys
    ]
    (folder / "data.seg.wrd.stm").write_text("".join(lines), encoding="utf-8")
    (folder / "label_map.json").write_text(json.dumps({"anger": "Angry", "happy": "Happy"}), encoding="utf-8")
    return folder


@pytest.fixture
def emobox(tmp_path: Path) -> Path:
    """Three folds, each of which tests one actor."""
    for number, (name, *_) in enumerate(CLIPS):
        write_clip(tmp_path / f"downloads/emodb/{name}.wav", seconds=0.1, frequency=200 + 40 * number)
    every = list(range(12))
    tests = [every[:4], every[4:8], every[8:]]
    return write_metadata(
        tmp_path, "emodb", [{"train": [i for i in every if i not in test], "test": test} for test in tests]
    )


def test_rows(emobox: Path) -> None:
    [rows] = read(f"emobox={emobox}")
    found = rows[rows["clip"][:].index("emodb/wav/08a02Wa")]
    assert Path(found.pop("audio")["path"]).is_file()
    assert found == {
        "clip": "emodb/wav/08a02Wa", "emotion": "angry", "speaker": "emodb_08", "gender": None, "corpus": "emodb",
        "session": None, "split": None, "copy_of": None, "statement": "a02", "fold_1": "train", "fold_2": "test", "fold_3": "train",
    }  # fmt: skip


def test_a_model_is_tested_on_a_fold(emobox: Path) -> None:
    clips = load_corpora([f"emobox={emobox}"], ["angry", "happy"])
    assert clips.info.sources == {"emodb": {"read_as": "emodb"}}
    speakers = ["emodb_03", "emodb_08", "emodb_09"]
    for fold, speaker in enumerate(speakers):
        parts = official_split(clips, fold)
        assert set(parts["test"]["speaker"]) == {speaker}
        # EmoBox has no clips that validate here: the last training speaker does.
        others = [name for name in speakers if name != speaker]
        assert [set(parts[part]["speaker"]) for part in ("train", "validation")] == [{others[0]}, {others[1]}]
        assert parts["test"].info.split == {"name": "official", "fold": fold, "folds": 3}
    with pytest.raises(SplitError, match="fold: expected 0 to 2, found 3"):
        official_split(clips, 3)


def test_a_clip_in_two_parts_of_a_fold_is_in_no_part_of_the_split(tmp_path: Path) -> None:
    folder = write_metadata(tmp_path, "emodb", [{"train": [0, 1, 2, 3, 4, 5], "valid": [6, 7], "test": [5, 8, 9]}])
    [rows] = read(f"emobox={folder}")
    assert rows["fold_1"][:].count("train+test") == 1
    parts = official_split(without_audio(rows), 0)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [5, 2, 2]


def test_the_name_of_a_corpus_that_is_known(tmp_path: Path) -> None:
    [rows] = read(f"emobox={write_metadata(tmp_path, 'cremad', [{'train': [0], 'test': [1]}])}")
    assert rows["corpus"][0] == "crema_d"


def test_bad_input(emobox: Path) -> None:
    with pytest.raises(CorpusError, match=r"no fold in .*data', which holds emodb\. Give the folder of one corpus"):
        read(f"emobox={emobox.parent}")
    file = emobox / "fold_1/emodb_train_fold_1.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    for broken, message in (
        ("no JSON", r"line 2: expected a JSON object, found 'no JSON'"),
        ('{"key": "a", "emo": "b"}', r"line 2: expected key, wav and emo, found key and emo"),
        (lines[1].replace('"channel"', '"start_time": 1.5, "channel"'), r"segments of longer files\. Cut them"),
    ):
        file.write_text("\n".join([lines[0], broken]), encoding="utf-8")
        with pytest.raises(CorpusError, match=message):
            read(f"emobox={emobox}")


def test_an_audit_counts_what_train_and_test_share(tmp_path: Path, emobox: Path) -> None:
    # The first three folds are by speaker; these share all speakers, a clip and a sentence.
    write_metadata(tmp_path, "cremad", [{"train": [0, 2, 4, 6, 8, 10, 3], "test": [1, 3, 5]}])
    shared, *by_speaker = audit_emobox(tmp_path)
    assert shared == SharedByParts(
        corpus="crema_d", fold=1, folds=1, train=6, test=2, test_speakers=2, speakers=2, unknown=0, clips=1,
        test_sentences=None, sentences=None, recordings=None,
    )  # fmt: skip
    assert shared.remedy == {"split": "speaker", "test_size": 0.25}
    assert [(fold.fold, fold.test_speakers, fold.speakers, fold.test_sentences, fold.sentences) for fold in by_speaker] == [
        (1, 1, 0, 2, 2), (2, 1, 0, 2, 2), (3, 1, 0, 2, 2),
    ]  # fmt: skip
    assert not any(fold.remedy for fold in by_speaker)


def test_an_audit_of_recordings_finds_a_copy_under_another_name(emobox: Path) -> None:
    audio = emobox.parents[1] / "downloads/emodb"
    samples = np.random.default_rng(0).standard_normal(16_000) / 10
    soundfile.write(audio / f"{CLIPS[0][0]}.wav", samples, 16_000)
    soundfile.write(audio / f"{CLIPS[11][0]}.wav", samples / 2, 16_000)
    assert [fold.recordings for fold in audit_emobox(emobox, decode=True)] == [1, 0, 1]


def test_the_audit_on_the_command_line(emobox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    write_metadata(emobox.parents[1], "cremad", [{"train": [0, 2, 4, 6, 8, 10], "test": [1, 3, 5]}])
    monkeypatch.setattr("sys.argv", ["hf-ser corpora", "--audit", str(emobox.parents[1])])
    assert corpora.main() == 0
    printed = capsys.readouterr().out
    assert "2 of 2" in printed
    assert "  --corpora crema_d=FOLDER --split speaker --test_size 0.33" in printed
    assert "--corpora emodb" not in printed
