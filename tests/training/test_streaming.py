"""A run on a streamed data set is the run on the same data set downloaded, and leaves no audio on the disk."""

import csv
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Audio, Dataset, Features, Value
from huggingface_hub import HfApi

from hf_ser.corpora import CorpusError
from hf_ser.features import SpeechDataset
from hf_ser.modeling.load import load_config
from hf_ser.training import Arguments, finetune, parse_arguments
from hf_ser.training.data import load_splits, require_length, segments_of, speech_of

EMOTIONS = ("angry", "happy", "sad")


@pytest.fixture
def push(hub: Any, push_speech: Callable[..., str]) -> Callable[..., str]:
    return push_speech


def words(corpus: str, folder: Path, model: Path, *more: str) -> list[str]:
    return ["--corpora", f"dataset={corpus}", "--model_name_or_path", str(model), "--output_dir", str(folder), "--num_train_epochs", "2",
            "--method", "full", "--disable_tqdm", "True", "--bf16", "False", *more]  # fmt: skip


def test_the_tables_alone_are_read_to_split(
    hub: Any, push: Callable[..., str], tiny_hubert: Path, tmp_path: Path
) -> None:
    name = push()
    hub.sent.clear()
    size = 96 * 25_600  # of 0.4 s at 32 kHz
    arguments = parse_arguments(words(name, tmp_path / "run", tiny_hubert, "--streaming", "True"))
    streamed = load_splits(arguments.script, 400)
    assert streamed["train"].info.stream is not None
    got = sum(count for path, count in hub.sent if path.endswith(".parquet"))
    assert 0 < got < 0.1 * size
    hub.sent.clear()
    arguments = parse_arguments(words(name, tmp_path / "run", tiny_hubert))
    downloaded = load_splits(arguments.script, 400)
    assert sum(count for _, count in hub.sent) > size
    for part, clips in streamed.items():
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
    push: Callable[..., str], tiny_hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setenv("HF_SER_CACHE", str(tmp_path / "cache"))
    name = push()
    hub_cache = Path(datasets.config.HF_DATASETS_CACHE).parent
    streamed = finetune(parse_arguments(words(name, tmp_path / "streamed", tiny_hubert, "--streaming", "True",
                                              "--shuffle_buffer", "25")))  # fmt: skip
    assert audio_below(tmp_path / "streamed") + audio_below(hub_cache) + audio_below(tmp_path / "cache") == []
    downloaded = finetune(parse_arguments(words(name, tmp_path / "downloaded", tiny_hubert)))
    assert audio_below(hub_cache)
    splits = [(tmp_path / run / "splits.json").read_text() for run in ("streamed", "downloaded")]
    assert splits[0] == splits[1]
    for key in ("emotions", "corpora", "excluded", "left_out", "split", "warnings", "parameters"):
        assert getattr(streamed, key) == getattr(downloaded, key), key
    assert streamed.training.steps == downloaded.training.steps
    for part in ("validation", "test"):
        assert streamed.metrics[part]["clips"] == downloaded.metrics[part]["clips"]


def test_a_clip_sounds_as_it_does_downloaded(push: Callable[..., str], tiny_hubert: Path, tmp_path: Path) -> None:
    name = push()
    sets = []
    for more in ((), ("--streaming", "True")):
        arguments = parse_arguments(words(name, tmp_path, tiny_hubert, "--max_seconds", "0.25", *more))
        sets.append(part_for_test(arguments))
    items = [{item["clip"]: item for item in (speech[i] for i in range(len(speech)))} for speech in sets]
    assert items[0].keys() == items[1].keys()
    for clip, item in items[0].items():
        assert len(item["waveform"]) == 4000
        assert np.array_equal(item["waveform"], items[1][clip]["waveform"])
        assert np.array_equal(item["labels"], items[1][clip]["labels"])


class TestBrokenClips:
    def test_they_are_excluded_and_in_no_metric(
        self, push: Callable[..., str], broken_clips: dict[int, bytes], tiny_hubert: Path, tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        name = push(broken=broken_clips)
        argv = words(name, tmp_path / "run", tiny_hubert, "--streaming", "True", "--dataloader_num_workers", "1", "--method",
                     "frozen")  # fmt: skip
        with caplog.at_level(logging.INFO, "hf_ser"):
            results = finetune(parse_arguments(argv))
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

    def test_too_many_of_them_end_the_run(self, push: Callable[..., str], tiny_hubert: Path, tmp_path: Path) -> None:
        name = push(broken=dict.fromkeys(range(0, 96, 2), b"x"))
        argv = words(name, tmp_path / "run", tiny_hubert, "--streaming", "True")
        with pytest.raises(CorpusError, match=r"max_excluded=0.05: 5 of 96 clips of the stream are unusable"):
            finetune(parse_arguments(argv))


def test_a_resumed_run_has_the_same_losses(push: Callable[..., str], tiny_hubert: Path, tmp_path: Path) -> None:
    name = push()
    more = ["--streaming", "True", "--shuffle_buffer", "20", "--save_strategy", "steps", "--save_steps", "3", "--eval_strategy",
            "steps", "--eval_steps", "3", "--logging_strategy", "steps", "--logging_steps", "1", "--save_total_limit", "10"]  # fmt: skip
    whole = finetune(parse_arguments(words(name, tmp_path / "whole", tiny_hubert, *more)))
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", again)
    checkpoint = again / "checkpoint-3"
    assert json.loads((checkpoint / "trainer_state.json").read_text())["epoch"] % 1  # in the middle of an epoch
    resumed = finetune(
        parse_arguments(words(name, again, tiny_hubert, *more, "--resume_from_checkpoint", str(checkpoint)))
    )
    losses = [[entry.get("loss") for entry in run.history] for run in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_segments_need_to_know_how_long_clips_are(push: Callable[..., str], tiny_hubert: Path, tmp_path: Path) -> None:
    cutting = ("--streaming", "True", "--segment_length", "0.15", "--segment_overlap", "0.05")
    with pytest.raises(CorpusError, match=r"segment_length: .* clips have no length in a column duration"):
        finetune(parse_arguments(words(push(), tmp_path / "run", tiny_hubert, *cutting)))
    speech = part_for_test(parse_arguments(words(push("lab/timed", durations=True), tmp_path, tiny_hubert, *cutting)))
    assert len(speech) == 4 * len(set(speech.segments.clip.tolist()))
    assert {len(speech[i]["waveform"]) for i in range(len(speech))} == {2400}


@pytest.mark.parametrize("option", [["--mixup_alpha", "1"], ["--distort_kinds", "babble"]])
def test_other_clips_are_not_there_for_mixup_and_babble(
    push: Callable[..., str], option: list[str], tiny_hubert: Path, tmp_path: Path
) -> None:
    arguments = words(push(), tmp_path, tiny_hubert, "--streaming", "True", *option)
    with pytest.raises(ValueError, match=r"streaming: mixup_alpha and babble \(distort_kinds\) need other clips"):
        finetune(parse_arguments(arguments))


def test_whisper_needs_to_know_how_long_clips_are(push: Callable[..., str], tiny_whisper: Path, tmp_path: Path) -> None:
    """Else a clip of more than 30 s would end the run, whenever it comes."""
    argv = words(push(), tmp_path / "run", tiny_whisper, "--streaming", "True", "--bf16", "False")
    with pytest.raises(CorpusError, match=r"the encoder takes 30 s at most, and the length.*max_seconds 30"):
        finetune(parse_arguments(argv))
    config = load_config(tiny_whisper)
    arguments = parse_arguments([*argv, "--max_seconds", "30"])
    require_length(load_splits(arguments.script, 320)["test"], arguments.training, config)
    argv = words(push("lab/timed", durations=True), tmp_path, tiny_whisper, "--streaming", "True")
    arguments = parse_arguments(argv)
    require_length(load_splits(arguments.script, 320)["test"], arguments.training, config)


@pytest.mark.parametrize(("corpora", "message"), [("synthetic", "is no data set on the Hub"), ("dataset=.", "is no data set on the Hub"),
                                                  ("dataset=lab/none", "cannot be found on the Hub")])  # fmt: skip
def test_what_cannot_be_streamed(hub: Any, corpora: str, message: str, tiny_hubert: Path, tmp_path: Path) -> None:
    argv = words("x", tmp_path, tiny_hubert, "--streaming", "True")
    argv[argv.index("--corpora") + 1] = corpora
    with pytest.raises(CorpusError, match=message):
        load_splits(parse_arguments(argv).script, 400)


def test_a_data_set_without_clips(hub: Any, tiny_hubert: Path, tmp_path: Path) -> None:
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    empty = Dataset.from_dict({"audio": [], "label": []}, features=features)
    empty.cast_column("audio", Audio(decode=False)).push_to_hub("lab/empty")
    with pytest.raises(CorpusError, match="'lab/empty' has no clips"):
        load_splits(parse_arguments(words("lab/empty", tmp_path, tiny_hubert, "--streaming", "True")).script, 400)


def test_a_folder_of_files_on_the_hub_is_downloaded_or_nothing(
    hub: Any, write_clip: Callable[..., Path], tiny_hubert: Path, tmp_path: Path
) -> None:
    HfApi().create_repo("lab/files", repo_type="dataset")
    for n, emotion in enumerate(EMOTIONS):
        HfApi().upload_file(
            path_or_fileobj=write_clip(tmp_path / f"{n}.wav"),
            path_in_repo=f"{emotion}/{n}.wav",
            repo_id="lab/files",
            repo_type="dataset",
        )
    argv = words("lab/files", tmp_path, tiny_hubert, "--streaming", "True")
    with pytest.raises(
        CorpusError, match=r"'lab/files' is stored as audiofolder.*stored as Parquet.*leave streaming out"
    ):
        load_splits(parse_arguments(argv).script, 400)


class TestAHubThatFails:
    def test_a_request_that_fails_once_is_made_again(
        self, hub: Any, push: Callable[..., str], tiny_hubert: Path, tmp_path: Path
    ) -> None:
        speech = part_for_test(parse_arguments(words(push(), tmp_path, tiny_hubert, "--streaming", "True")))
        hub.fail("GET", ".parquet", status=503)
        assert len(speech[0]["waveform"]) == 6400

    def test_a_hub_that_is_gone(self, hub: Any, push: Callable[..., str], tiny_hubert: Path, tmp_path: Path) -> None:
        speech = part_for_test(parse_arguments(words(push(), tmp_path, tiny_hubert, "--streaming", "True")))
        hub.close()
        with pytest.raises(
            CorpusError, match=r"cannot be read from the Hub.*Continue with resume_from_checkpoint=True"
        ):
            speech[0]
