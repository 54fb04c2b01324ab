"""A run on a streamed data set is the run on the same data set downloaded, and leaves no audio on the disk."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets.config
import numpy as np
import pytest
from datasets import Audio, Dataset, Features, Value
from huggingface_hub import HfApi, snapshot_download
from small_files import write_clip
from trainings import BROKEN_CLIPS, push_speech

from hf_ser.corpora import CorpusError
from hf_ser.inference.clips import find_clips
from hf_ser.modeling.load import load_config
from hf_ser.training import Arguments, finetune, parse_arguments
from hf_ser.training.data import load_splits, require_length, segments_of, speech_of
from hf_ser.training.dataset import SpeechDataset

Push = Callable[..., str]
Parse = Callable[..., Arguments]
DOWNLOADED = ("--streaming", "False")


@pytest.fixture
def push(hub: Any) -> Push:
    return push_speech


@pytest.fixture
def streamed(hub: Any, tiny_hubert: Path, tmp_path: Path) -> Parse:
    """The arguments of a run in the folder `run`, whose clips are streamed unless others say otherwise."""

    def parse(corpus: str, *more: str, model: Path = tiny_hubert) -> Arguments:
        return parse_arguments(
            ["--corpora", f"dataset={corpus}", "--model_name_or_path", str(model), "--output_dir", str(tmp_path / "run"),
             "--num_train_epochs", "2", "--method", "full", "--disable_tqdm", "True", "--bf16", "False", "--streaming", "True", *more]
        )  # fmt: skip

    return parse


def test_the_tables_alone_are_read_to_split(hub: Any, push: Push, streamed: Parse) -> None:
    name = push()
    hub.sent.clear()
    size = 96 * 25_600  # of 0.4 s at 32 kHz
    parts = load_splits(streamed(name).script, 400)
    assert parts["train"].info.stream is not None
    got = sum(count for path, count in hub.sent if path.endswith(".parquet"))
    assert 0 < got < 0.1 * size
    hub.sent.clear()
    downloaded = load_splits(streamed(name, *DOWNLOADED).script, 400)
    assert sum(count for _, count in hub.sent) > size
    for part, clips in parts.items():
        for name in ("clip", "label", "speaker", "gender", "corpus"):
            assert clips[name][:] == downloaded[part][name][:]


def part_for_test(arguments: Arguments) -> SpeechDataset:
    """The segments of the test part."""
    clips = load_splits(arguments.script, 400)["test"]
    return speech_of(clips, segments_of(clips, arguments.training))


def audio_below(folder: Path) -> list[Path]:
    """Files that hold audio: WAV inside them, or Parquet and Arrow large enough for a clip."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix != ".safetensors"
        and (b"RIFF" in file.read_bytes() or file.suffix in (".arrow", ".parquet"))
    ]


def test_a_run_is_that_of_the_downloaded_corpus_and_leaves_no_audio(
    push: Push, streamed: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    name = push()
    hub_cache = Path(datasets.config.HF_DATASETS_CACHE).parent
    own = finetune(streamed(name, "--shuffle_buffer", "25"))
    assert audio_below(tmp_path / "run") + audio_below(hub_cache) + audio_below(tmp_path / "cache") == []
    downloaded = finetune(streamed(name, *DOWNLOADED, "--output_dir", str(tmp_path / "downloaded")))
    assert audio_below(hub_cache)
    splits = [(tmp_path / run / "splits.json").read_text() for run in ("run", "downloaded")]
    assert splits[0] == splits[1]
    for key in ("emotions", "corpora", "excluded", "left_out", "split", "warnings", "parameters"):
        assert getattr(own, key) == getattr(downloaded, key), key
    assert own.training.steps == downloaded.training.steps
    for part in ("validation", "test"):
        assert own.metrics[part]["clips"] == downloaded.metrics[part]["clips"]


def test_a_clip_sounds_as_it_does_downloaded(push: Push, streamed: Parse) -> None:
    name = push()
    sets = [part_for_test(streamed(name, "--max_seconds", "0.25", *more)) for more in (DOWNLOADED, ())]
    items = [{item["clip"]: item for item in (speech[i] for i in range(len(speech)))} for speech in sets]
    assert items[0].keys() == items[1].keys()
    for clip, item in items[0].items():
        assert len(item["waveform"]) == 4000
        assert np.array_equal(item["waveform"], items[1][clip]["waveform"])
        assert np.array_equal(item["labels"], items[1][clip]["labels"])


def test_a_folder_of_parquet_files_is_read_where_it_is(
    push: Push, streamed: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    name = push()
    folder = snapshot_download(name, repo_type="dataset", local_dir=tmp_path / name)
    here, there = (load_splits(streamed(source).script, 400) for source in (folder, name))
    for part, clips in there.items():
        assert here[part]["clip"][:] == clips["clip"][:]
        assert here[part]["label"][:] == clips["label"][:]
    both = zip(find_clips(f"dataset={folder}"), find_clips(f"dataset={name}"), strict=True)
    assert all(np.array_equal(clip.read(), other.read()) for clip, other in both)
    assert not any(map(audio_below, (tmp_path / "cache", Path(datasets.config.HF_DATASETS_CACHE).parent)))


class TestBrokenClips:
    def test_they_are_excluded_and_in_no_metric(
        self, push: Push, streamed: Parse, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "hf_ser"):
            results = finetune(
                streamed(push(broken=BROKEN_CLIPS), "--dataloader_num_workers", "1", "--method", "frozen")
            )
        assert "no outputs of frozen layers are cached: clips are streamed" in caplog.text
        assert "frozen_cache_gb" not in results.training.arguments
        with (tmp_path / "run" / "excluded.csv").open() as file:
            reasons = {row["clip"]: row["reason"] for row in csv.DictReader(file)}
        assert reasons == {
            "clips/train/0000007": "empty",
            "clips/train/0000020": "unreadable",
            "clips/test/0000005": "empty",
            "clips/test/0000030": "too short",
        }
        split = json.loads((tmp_path / "run" / "splits.json").read_text())["parts"]
        for part in ("validation", "test"):
            assert results.metrics[part]["clips"] == len(set(split[part]) - set(reasons))
        assert results.excluded == {"clips": {"empty": 2, "too short": 1, "unreadable": 1}}
        assert np.isfinite(results.test["uar"])

    def test_too_many_of_them_end_the_run(self, push: Push, streamed: Parse) -> None:
        arguments = streamed(push(broken=dict.fromkeys(range(0, 96, 2), b"x")))
        with pytest.raises(CorpusError, match=r"max_excluded=0.05: 5 of 96 clips of the stream are unusable"):
            finetune(arguments)


def test_a_resumed_run_has_the_same_losses(push: Push, streamed: Parse, tmp_path: Path) -> None:
    name = push()
    more = ["--shuffle_buffer", "20", "--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps", "--eval_steps",
            "3", "--logging_strategy", "steps", "--logging_steps", "1", "--save_total_limit", "10"]  # fmt: skip
    whole = finetune(streamed(name, *more))
    checkpoint = Path(shutil.copytree(tmp_path / "run", tmp_path / "again")) / "checkpoint-3"
    assert json.loads((checkpoint / "trainer_state.json").read_text())["epoch"] % 1  # in the middle of an epoch
    more += ["--output_dir", str(tmp_path / "again"), "--resume_from_checkpoint", str(checkpoint)]
    resumed = finetune(streamed(name, *more))
    losses = [[entry.get("loss") for entry in run.history] for run in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_segments_need_to_know_how_long_clips_are(push: Push, streamed: Parse) -> None:
    cutting = ("--segment_length", "0.15", "--segment_overlap", "0.05")
    arguments = streamed(push(), *cutting)
    with pytest.raises(CorpusError, match=r"segment_length: .* clips have no length in a column duration"):
        finetune(arguments)
    speech = part_for_test(streamed(push("lab/timed", durations=True), *cutting))
    assert len(speech) == 4 * len(set(speech.segments.clip.tolist()))
    assert {len(speech[i]["waveform"]) for i in range(len(speech))} == {2400}


@pytest.mark.parametrize("option", [["--mixup_alpha", "1"], ["--distort_kinds", "babble"]])
def test_other_clips_are_not_there_for_mixup_and_babble(push: Push, streamed: Parse, option: list[str]) -> None:
    arguments = streamed(push(), *option)
    with pytest.raises(ValueError, match=r"streaming: mixup_alpha and babble \(distort_kinds\) need other clips"):
        finetune(arguments)


def test_whisper_needs_to_know_how_long_clips_are(push: Push, streamed: Parse, tiny_whisper: Path) -> None:
    """Else a clip of more than 30 s would end the run, whenever it comes."""
    arguments = streamed(push(), model=tiny_whisper)
    with pytest.raises(CorpusError, match=r"the encoder takes 30 s at most, and the length.*max_seconds 30"):
        finetune(arguments)
    for corpus, more in (("lab/clips", ("--max_seconds", "30")), (push("lab/timed", durations=True), ())):
        arguments = streamed(corpus, *more, model=tiny_whisper)
        require_length(load_splits(arguments.script, 320)["test"], arguments.training, load_config(tiny_whisper))


@pytest.mark.parametrize(("corpora", "message"), [("synthetic", "is no data set"), ("dataset=lab/none", "cannot be found, on disk or on the Hub")])  # fmt: skip
def test_what_cannot_be_streamed(streamed: Parse, corpora: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_splits(streamed("x", "--corpora", corpora).script, 400)


def test_a_data_set_without_clips(streamed: Parse) -> None:
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    empty = Dataset.from_dict({"audio": [], "label": []}, features=features)
    empty.cast_column("audio", Audio(decode=False)).push_to_hub("lab/empty")
    with pytest.raises(CorpusError, match="'lab/empty' has no clips"):
        load_splits(streamed("lab/empty").script, 400)


def test_a_folder_of_files_on_the_hub_is_downloaded_or_nothing(streamed: Parse, tmp_path: Path) -> None:
    for emotion in ("angry", "happy", "sad"):
        write_clip(tmp_path / "files" / emotion / "1.wav")
    HfApi().create_repo("lab/files", repo_type="dataset")
    HfApi().upload_folder(folder_path=tmp_path / "files", repo_id="lab/files", repo_type="dataset")
    with pytest.raises(
        CorpusError, match=r"'lab/files' is stored as audiofolder.*stored as Parquet.*leave streaming out"
    ):
        load_splits(streamed("lab/files").script, 400)


class TestAHubThatFails:
    def test_a_request_that_fails_once_is_made_again(self, hub: Any, push: Push, streamed: Parse) -> None:
        speech = part_for_test(streamed(push()))
        hub.fail("GET", ".parquet", status=503)
        assert len(speech[0]["waveform"]) == 6400

    def test_a_hub_that_is_gone(self, hub: Any, push: Push, streamed: Parse) -> None:
        speech = part_for_test(streamed(push()))
        hub.close()
        with pytest.raises(CorpusError, match=r"cannot be read.*Continue with resume_from_checkpoint=True"):
            speech[0]
