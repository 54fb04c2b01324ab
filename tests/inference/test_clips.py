"""What a user names is found, or the error says what to do."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from datasets import Audio, Dataset, DatasetDict, Features, Value
from small_files import rename_oddly, write_clip

from hf_ser.audio import AudioError
from hf_ser.corpora import CorpusError, hub_dataset
from hf_ser.corpora.hub_dataset import ParquetStream, RowGroup, open_streams
from hf_ser.inference.clips import find_clips


def test_files_folders_and_patterns_in_order(tmp_path: Path) -> None:
    for name in ("z.wav", "b/a.flac", "b/c/d.wav", "e.wav"):
        write_clip(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no audio")
    found = find_clips([tmp_path / "z.wav", str(tmp_path / "b"), f"{tmp_path}/**/*.wav"])
    names = [Path(clip.name).relative_to(tmp_path).as_posix() for clip in found]
    assert names == ["z.wav", "b/a.flac", "b/c/d.wav", "b/c/d.wav", "e.wav", "z.wav"]
    assert found[0].read().shape == (8000,)


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "take[1].wav")
    assert [clip.name for clip in find_clips(path)] == [str(path)]


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(FileNotFoundError, match=r"no file or folder '.*gone\.wav'.*write dataset=user/name"):
        find_clips(tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match=r"has no audio files.*\.flac.*found notes\.txt.*dataset="):
        find_clips(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"matches no audio file.*it matches 1 others, such as '.*notes\.txt'"):
        find_clips(str(tmp_path / "*"))
    with pytest.raises(FileNotFoundError, match=r"it matches nothing"):
        find_clips(str(tmp_path / "*.wav"))
    with pytest.raises(ValueError, match=r"source 1: expected a path.*found int"):
        find_clips([{"array": np.ones(3), "sampling_rate": 8000}, 7])  # type: ignore[list-item]


def test_a_data_set_without_labels(tmp_path: Path) -> None:
    files = [write_clip(tmp_path / f"{i}.wav", seconds=0.1 * (i + 1), rate=8000) for i in range(3)]
    content = {"sound": [{"bytes": file.read_bytes(), "path": None} for file in files], "text": ["a", "b", "c"]}
    features = Features({"sound": {"bytes": Value("binary"), "path": Value("string")}, "text": Value("string")})
    rows = Dataset.from_dict(content, features=features).cast_column("sound", Audio())
    DatasetDict({"train": rows.select([0, 1]), "test": rows.select([2])}).save_to_disk(tmp_path / "saved")
    source = f"dataset={tmp_path / 'saved'}"
    found = find_clips(source)
    assert [clip.name for clip in found] == [f"{source}/train/0", f"{source}/train/1", f"{source}/test/0"]
    assert [len(clip.read()) for clip in found] == [1600, 3200, 4800]
    assert [clip.name for clip in find_clips(rows)] == ["row 0", "row 1", "row 2"]
    assert [len(clip.read()) for clip in find_clips([rows, content["sound"][2]])] == [1600, 3200, 4800, 4800]
    parts = find_clips(DatasetDict({"train": rows}))
    assert [(clip.name, len(clip.read())) for clip in parts[1:]] == [("train/1", 3200), ("train/2", 4800)]
    rows.select_columns("text").save_to_disk(tmp_path / "mute")
    with pytest.raises(CorpusError, match=r"mute: the dataset has no column of type Audio; found text \(Value\)"):
        find_clips(f"dataset={tmp_path / 'mute'}")
    with pytest.raises(CorpusError, match="source 1, train: the dataset has no column of type Audio"):
        find_clips([rows, DatasetDict({"train": rows.select_columns("text")})])
    with pytest.raises(CorpusError, match="cannot be loaded"):
        find_clips(f"dataset={tmp_path / 'nowhere'}")


def test_a_row_without_audio_is_excluded_when_it_is_read() -> None:
    """Trap: it ended the whole prediction."""
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}})
    rows = Dataset.from_dict({"audio": [None, {"bytes": None, "path": None}]}, features=features)
    for clip in find_clips(rows.cast_column("audio", Audio())):
        with pytest.raises(AudioError, match="there is neither a path nor content"):
            clip.read()


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    content = [write_clip(tmp_path / f"{i}.wav", seconds=0.1 * (i + 1), rate=8000).read_bytes() for i in range(3)]
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    columns = {"audio": [{"bytes": one, "path": None} for one in content], "label": ["sad", "angry", "sad"]}
    rows = Dataset.from_dict(columns, features=features).cast_column("audio", Audio(decode=False))
    for file in ("one/clips.parquet", "two/train.parquet", "two/test.parquet"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / file)

    def lengths(name: str) -> list[int]:
        return [len(clip.read()) for clip in find_clips(f"dataset={tmp_path / name}")]

    assert lengths("one") == [1600, 3200, 4800]
    assert lengths("two") == [1600, 3200, 4800] * 2
    assert [len(open_streams([f"dataset={tmp_path / name}"])[0]) for name in ("one", "two")] == [3, 6]
    rows.select([2]).to_parquet(tmp_path / "one" / "clips.parquet")  # in the same process
    assert lengths("one") == [4800]
    rows.select([]).to_parquet(tmp_path / "one" / "clips.parquet")
    with pytest.raises(CorpusError, match="one: the dataset has no rows"):
        lengths("one")
    (tmp_path / "one" / "clips.parquet").write_bytes(b"nothing")
    with pytest.raises(CorpusError, match="one' cannot be loaded"):
        lengths("one")
    with pytest.raises(CorpusError, match="one' cannot be read"):
        open_streams([f"dataset={tmp_path / 'one'}"])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0.5, -0.25]), [0.5, -0.25]),
        (np.array([[0.5, 0.0], [-0.5, 0.25], [1.0, 1.0]]), [0.25, -0.125, 1.0]),
        (np.array([16384, -32768], np.int16), [0.5, -1.0]),
        (np.array([[2**30, -(2**31)], [0, 2**30]], np.int32), [-0.25, 0.25]),
        (np.array([128, 192, 0], np.uint8), [0.0, 0.5, -1.0]),
    ],
)
def test_arrays_of_any_kind_and_layout(array: np.ndarray, expected: list[float]) -> None:
    (clip,) = find_clips({"array": array, "sampling_rate": 16_000, "path": "mine"})
    assert clip.name == "mine"
    waveform = clip.read()
    assert waveform.dtype == np.float32
    assert waveform.tolist() == expected
    (clip,) = find_clips({"raw": array, "sampling_rate": 16_000})  # as in transformers' pipeline
    assert clip.read().tolist() == expected


def test_arrays_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"source 0: expected an array of shape.*found \(2, 16000\); transpose it"):
        find_clips({"array": np.zeros((2, 16_000)), "sampling_rate": 16_000})
    with pytest.raises(ValueError, match=r"needs 'array' and 'sampling_rate'; found 'array'"):
        find_clips({"array": np.zeros(2)})
    for rate in (0, 1, 16_000.5, 400_000, None, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=rf"expected a sampling_rate of 4000 to 384000 Hz, a whole number; found {rate}$"
        ):
            find_clips({"array": np.zeros(2), "sampling_rate": rate})
    with pytest.raises(ValueError, match=r"expected an array of floats or integers, found complex128"):
        find_clips({"array": np.zeros(2, complex), "sampling_rate": 16_000})


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no audio at all", "unreadable"), (b"", "empty: the file has no bytes")]
)
def test_a_file_that_is_no_audio_fails_when_it_is_read(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    for source in (tmp_path, content):
        (clip,) = find_clips(source)
        with pytest.raises(AudioError, match=reason.partition(":")[0]):
            clip.read()


def test_a_file_whose_name_is_no_unicode(tmp_path: Path) -> None:
    rename_oddly(write_clip(tmp_path / "a.wav"))
    (clip,) = find_clips(tmp_path)
    assert os.fsencode(clip.name) == os.fsencode(tmp_path) + b"/bad\xff.wav"
    assert len(clip.read()) == 8000
    (tmp_path / "b.wav").write_bytes(b"no audio")
    rename_oddly(tmp_path / "b.wav")
    with pytest.raises(AudioError, match=r"^unreadable: Error opening 'the file': Format not recognised"):
        find_clips(tmp_path)[0].read()


def test_threads_that_read_a_streamed_data_set_fetch_its_rows_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, fetched = write_clip(tmp_path / "a.wav").read_bytes(), list[int]()

    def fetch(self: ParquetStream, group: int, rows: np.ndarray) -> list[dict[str, object]]:
        fetched.append(group)
        time.sleep(0.02)
        return [{"bytes": content, "path": None}] * len(rows)

    stream = ParquetStream([RowGroup("a.parquet", group, 6, "audio") for group in range(3)], {})
    monkeypatch.setattr(ParquetStream, "fetch", fetch)
    monkeypatch.setattr(hub_dataset, "open_audio", lambda name: {"train": stream})
    with ThreadPoolExecutor(4) as threads:
        waveforms = list(threads.map(lambda clip: clip.read(), find_clips("dataset=lab/clips")))
    assert len(waveforms) == 18
    assert fetched == [0, 1, 2]
