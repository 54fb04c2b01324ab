"""A data set on the Hub is a corpus, and clips to predict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from hf_ser.corpora import CorpusError, read
from hf_ser.inference.clips import find_clips

Make = Callable[..., Dataset]


@pytest.fixture
def pushed(hub: Any, make_dataset: Make) -> str:
    train = make_dataset(emotion=["happy", "sad"], speaker=["s0", "s1"])
    DatasetDict(train=train, test=make_dataset(emotion=["angry"], speaker=["s0"])).push_to_hub("lab/clips")
    return "lab/clips"


def test_it_is_read_by_name(pushed: str) -> None:
    (rows,) = read(f"dataset={pushed}")
    assert rows["emotion"][:] == ["happy", "sad", "angry"]
    assert rows["split"][:] == ["train", "train", "test"]
    assert rows["speaker"][:] == ["clips_s0", "clips_s1", "clips_s0"]
    assert all(audio["bytes"] for audio in rows["audio"])


def test_parts_that_are_corpora_are_read_as_such(hub: Any, make_dataset: Make) -> None:
    """CAMEO has a part for each corpus, and the columns `emotion` and `speaker_id`."""
    part = make_dataset(
        emotion=["anger"], transcription=["dogs"], speaker_id=["nemo_3"], gender=["female"], dataset=["nEMO"], language=["Polish"],
    )  # fmt: skip
    DatasetDict({"crema_d": part, "nEMO": part}).push_to_hub("lab/cameo")
    first, second = read("dataset=lab/cameo")
    assert [first["corpus"][0], second["corpus"][0]] == ["crema_d", "nemo"]
    assert second[0].items() >= {
        "clip": "nemo/0000000", "emotion": "angry", "speaker": "nemo_nemo_3", "gender": "female", "split": None,
    }.items()  # fmt: skip


def test_the_current_folder_has_a_name(make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(emotion=["sad"]).save_to_disk(tmp_path / "Lab")
    monkeypatch.chdir(tmp_path / "Lab")
    (rows,) = read("dataset=.")
    assert rows[0]["corpus"] == "lab"


def test_its_clips_can_be_predicted(pushed: str) -> None:
    clips = find_clips(f"dataset={pushed}")
    assert [clip.name for clip in clips] == [f"dataset={pushed}/{row}" for row in ("train/0", "train/1", "test/0")]
    assert len(clips[0].read()) == 1600


def test_one_that_is_not_there(hub: Any) -> None:
    with pytest.raises(CorpusError, match=r"dataset: 'lab/none' cannot be loaded, from disk or from the Hub"):
        read("dataset=lab/none")
