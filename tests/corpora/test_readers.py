"""Folders, manifests and data sets become rows; copies, odd names and malformed input."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from small_files import rename_oddly, write_clip

from hf_ser.audio import prepare
from hf_ser.corpora import CorpusError, corpus_of, read, read_corpora


def test_savee_from_the_folder_of_one_speaker(tmp_path: Path) -> None:
    write_clip(tmp_path / "KL/sa15.wav")
    [rows] = read(f"savee={tmp_path / 'KL'}")
    assert (rows[0]["speaker"], rows[0]["emotion"]) == ("savee_KL", "sad")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_manifest_of_any_kind(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame(
        {
            "Path": ["a/1.wav", "/data/2.flac", "3.mp3"],
            "label": ["Anger", "neu", "whimsy"],
            "speaker_id": ["7", "8", ""],
            "sex": ["F", "man", "?"],
            "Split": ["dev", "train", "Test1"],
            "corpus": ["one", "two", "one"],
        }
    )
    path = tmp_path / f"mine.{kind}"
    match kind:
        case "csv":
            table.to_csv(path, index=False)
        case "tsv":
            table.to_csv(path, index=False, sep="\t")
        case "jsonl":
            table.to_json(path, orient="records", lines=True)
        case _:
            table.to_parquet(path)
    one, two = read(f"manifest={path}")
    assert one["emotion"][:] == ["whimsy", "angry"]  # by name: 3 comes before a/1
    assert one["speaker"][:] == [None, "one_7"]
    assert one["gender"][:] == [None, "female"]
    assert one["split"][:] == ["test", "validation"]
    assert one["audio"][1]["path"] == str(tmp_path / "a/1.wav")
    assert two[0]["audio"]["path"] == "/data/2.flac"
    assert two["clip"][:] == ["two/data/2"]


def test_a_data_set_on_disk(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    parts = DatasetDict(train=make_dataset(label=[0, 1], speaker=[4, 4]), test=make_dataset(label=[0], speaker=[4]))
    parts = parts.cast_column("label", ClassLabel(names=["sad", "hap"])).rename_column("audio", "sound")
    parts.save_to_disk(tmp_path / "Mine")
    [rows] = read(f"dataset={tmp_path / 'Mine'}")
    assert rows["emotion"][:] == ["sad", "happy", "sad"]
    assert rows["split"][:] == ["train", "train", "test"]
    assert set(rows["speaker"][:]) == {"mine_4"}


class TestBadInput:
    @pytest.mark.parametrize(
        ("specification", "message"),
        [
            ("ravdess={folder}/nowhere", "ravdess: there is no folder .*nowhere"),
            ("tess={folder}/empty", "Looked for names such as OAF_back_angry.wav .*found no audio file; the folder holds nothing"),
            ("crema_d={folder}/tess", "found 1 audio files, but none with such a name .*OAF_back_angry"),
            ("emodb3=x", "names no corpus; write NAME=PATH with one of .*tess.*or FILE.yaml=PATH"),
            ("savee", "has no path"),
            ("tess=", "has no path"),
            ("dataset=nobody/nothing", "cannot be loaded"),
            ("dataset={folder}/tess", "cannot be loaded.*audio files are read as manifest=metadata.csv, or as mine.yaml=FOLDER"),
        ],
    )  # fmt: skip
    def test_a_specification_without_clips(self, tmp_path: Path, specification: str, message: str) -> None:
        (tmp_path / "empty").mkdir()
        write_clip(tmp_path / "tess" / "OAF_back_angry.wav")
        with pytest.raises(CorpusError, match=message):
            read(specification.format(folder=tmp_path))

    def test_the_same_corpus_twice_and_none(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "DC/a01.wav")
        with pytest.raises(CorpusError, match="savee is there twice"):
            read_corpora([f"savee={tmp_path}", f"savee={tmp_path}"])
        with pytest.raises(CorpusError, match="name at least one"):
            read_corpora([])

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.csv", "path,mood\n1.wav,sad\n", "no column for emotion.*found path and mood"),
            ("a.csv", ",".join("abcdefghijklmn") + "\n1\n", r"found a, b, c, d, e, f, g, h, i, j and 4 more\.$"),
            ("a.json", '[{"path": "1.wav", "emotion": "sad"}]', "cannot be read as .json: JSON lines are needed"),
            ("a.json", '[\n{"path": "1.wav", "emotion": "sad"}\n]', "JSON lines are needed, one object on each line"),
            ("a.csv", "path,emotion\n", "lists no clip"),
            ("a.csv", "", "cannot be read"),
            ("a.xlsx", "x", "is none of"),
            (
                "a.csv",
                "path,emotion,speaker\n1,sad,7,8,9\n2,sad,7,8,9\n",
                "a.csv.*line 2 has 5 fields, and the header 3",
            ),
            ("a.csv", "path,emotion\n1,sad\n\n2,sad,so so\n", "line 4 has 3 fields, .*quote what has a comma in it"),
            ("a.csv", "path,emotion\n1,sad,\n2,sad,\n", "line 2 has 3 fields, .*a comma at the end of the lines"),
            ("a.tsv", "path\temotion\n1\tsad\t\n2\tsad\n", "line 2 has 3 fields, .*a tab at the end of the lines"),
            ("a.csv", '"path,emotion"\n"1.wav,sad"\n', "no quotes around a whole line"),
            ("a.csv", "path;emotion\n1.wav;sad\n", "Each line is one field: a .csv has a comma"),
            ("a.csv", 'path,emotion\n"1.wav,sad"\n"2.wav,sad"\n', "cannot be read as .csv: Each line is one field"),
            ("a.csv", 'path,emotion\n"1.wav,sad\n2.wav,sad\n', "cannot be read"),
            ("a.jsonl", "{", "cannot be read"),
        ],
    )
    def test_a_manifest_that_is_none(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=message):
            read(f"manifest={tmp_path / name}")

    def test_a_data_set_without_audio(self, tmp_path: Path) -> None:
        Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(tmp_path / "words")
        with pytest.raises(CorpusError, match=r"needs a column of type Audio.*text \(Value\)"):
            read(f"dataset={tmp_path / 'words'}")


def test_a_clip_that_is_there_as_wav_and_as_flac_has_two_names(tmp_path: Path) -> None:
    write_clip(tmp_path / "DC/a01.wav")
    write_clip(tmp_path / "DC/a01.flac")
    [rows] = read(f"savee={tmp_path}")
    assert rows["clip"][:] == ["savee/DC/a01", "savee/DC/a01#2"]


@pytest.mark.parametrize(
    ("corpus", "used", "copy"),
    [
        ("crema_d", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3"),
        ("ravdess", "Actor_01/03-01-05-01-01-01-01.wav", "again/Actor_01/03-01-05-01-01-01-01.flac"),
        ("tess", "OAF_angry/OAF_back_angry.wav", "TESS/OAF_angry/OAF_back_angry.wav"),
        ("savee", "DC/a01.wav", "flat/DC_a01.wav"),
    ],
)
def test_a_copy_of_a_performance_is_not_a_second_clip(tmp_path: Path, corpus: str, used: str, copy: str) -> None:
    """As CREMA-D ships, every clip is there as WAV and as MP3: in a random split one would train and the other test."""
    write_clip(tmp_path / used)
    write_clip(tmp_path / copy)
    [rows] = read(f"{corpus}={tmp_path}")
    name = f"{corpus}/{used.rpartition('.')[0]}"
    assert dict(zip(rows["clip"][:], rows["copy_of"][:], strict=True)) == {
        name: None,
        f"{corpus}/{copy.rpartition('.')[0]}": name,
    }


def test_links_that_turn_back_do_not_loop(tmp_path: Path) -> None:
    write_clip(tmp_path / "DC/a01.wav")
    (tmp_path / "DC/again").symlink_to(tmp_path)
    [rows] = read(f"savee={tmp_path}")
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("name", "text", "clips", "speakers"),
    [
        ("m.jsonl", '{"path": "1.wav", "emotion": "sad", "speaker": 3}\n{"path": "2.wav", "emotion": "sad", "speaker": null}',
         ["m/1", "m/2"], ["m_3", None]),
        # A comma at the end of all lines, and a field in quotes.
        ("m.csv", 'path,emotion,\n"1,2.wav",sad,\n', ["m/1,2"], [None]),
        # Spaces around the names of columns.
        ("m.csv", "emotion, Path,Speaker \nsad, 1.wav,7 \n", ["m/1"], ["m_7"]),
        # Speakers have the name of their corpus: one who was recorded by two sources must stay one.
        ("m.csv", "path,emotion,speaker,source\n1.wav,sad,7,phone\n2.wav,sad,7,studio\n", ["m/1", "m/2"], ["m_7", "m_7"]),
        ("m.csv", "path,emotion\n1.wav,sad\n,sad\n", ["m/1", "m/row-2"], [None, None]),
    ],
)  # fmt: skip
def test_manifests_as_people_write_them(
    tmp_path: Path, name: str, text: str, clips: list[str], speakers: list[str | None]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    [rows] = read(f"manifest={tmp_path / name}")
    assert (rows["clip"][:], rows["speaker"][:]) == (clips, speakers)
    assert rows["corpus"][:] == ["m"] * len(clips)


def test_a_row_without_a_path_excludes_its_clip_and_no_other(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.wav")
    paths = ["1.wav", "", None, ".", "1.wav\0.mp3"]
    lines = [json.dumps({"path": path, "emotion": "sad"}) for path in paths]
    (tmp_path / "m.jsonl").write_text("\n".join(lines), encoding="utf-8")
    prepared = prepare(read(f"manifest={tmp_path / 'm.jsonl'}"), tmp_path / "cache", 1)
    assert dict(zip(prepared["clip"][:], prepared["problem"][:], strict=True)) == {
        "m/1": "",
        "m/1.wav\\0": "unreadable",
        "m/row-2": "unreadable",
        "m/row-3": "unreadable",
        "m/row-4": "unreadable",
    }
    details = dict(zip(prepared["clip"][:], prepared["detail"][:], strict=True))
    assert details["m/row-2"] == details["m/row-3"] == "there is neither a path nor content"
    assert details["m/1.wav\\0"] == "there is a null byte in its path"


def test_a_name_that_is_no_utf_8_excludes_its_clip_and_no_other(tmp_path: Path) -> None:
    """The tables of a data set hold UTF-8 alone; a disk may hold whatever bytes."""
    write_clip(tmp_path / "Actor_01" / "03-01-05-01-01-01-01.wav")
    rename_oddly(write_clip(tmp_path / "Actor_02" / "03-01-04-01-01-01-02.wav").parent)
    rows = prepare(read_corpora([f"ravdess={tmp_path}"]), workers=1)
    found = {row["clip"]: row["problem"] for row in rows}
    assert found == {
        "ravdess/Actor_01/03-01-05-01-01-01-01": "",
        "ravdess/bad\\udcff.wav/03-01-04-01-01-01-02": "unreadable",
    }


def test_whose_a_clip_is_where_one_name_begins_with_another() -> None:
    assert [corpus_of(clip, ["lab", "lab/phone"]) for clip in ("lab/1", "lab/phone/1", "other/2")] == [
        "lab", "lab/phone", "other",
    ]  # fmt: skip


def test_a_file_that_two_patterns_match_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_clip(tmp_path / f"all/03a0{number}Fa.wav")
    mine = tmp_path / "mine.yaml"
    mine.write_text(r"pattern: (?P<speaker>\d\d)a\d\d(?P<emotion>[A-Z])a" + "\ncodes: {emotion: {F: happy}}\n")
    with pytest.raises(
        CorpusError, match=r"03a01Fa.wav' is a clip of both emodb and mine; give each the folder of its own"
    ):
        read_corpora([f"emodb={tmp_path / 'all'}", f"{mine}={tmp_path / 'all'}"])
