"""What the page answers, and what it says of its model. How it looks in a browser is in tests/scripts/test_demo.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import hf_ser
from hf_ser.models import load_model

gradio = pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'hf_ser[demo]'")

from hf_ser.inference import predict  # noqa: E402
from hf_ser.inference.app import LIMITS, LONGEST, describe, make_app  # noqa: E402

EMOTIONS = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def model(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "tiny-emotions"
    loaded = load_model(str(tiny_hubert), EMOTIONS)
    loaded.model.save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(model: Path) -> Any:
    return hf_ser.load(model)


@pytest.fixture(scope="module")
def page(classifier: Any) -> Any:
    return make_app(classifier, title="Emotions")


@pytest.fixture(scope="module")
def answer(page: Any) -> Callable[[str | None], list[Any]]:
    """What the button does."""
    return next(function.fn for function in page.fns.values() if function.api_name == "answer")


def test_a_short_recording_has_probabilities_and_no_timeline(
    answer: Any, classifier: Any, write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.wav", seconds=2, rate=44_100, channels=2)
    probabilities, over_time, plot, table, *files = answer(str(clip))
    (expected,) = predict(classifier, clip, progress=False)
    assert probabilities == pytest.approx(expected.probabilities)
    assert set(probabilities) == set(EMOTIONS)
    assert sum(probabilities.values()) == pytest.approx(1)
    assert not over_time.visible
    assert [plot, table, *files] == [None, None, None, None]


def test_a_longer_one_has_a_timeline_and_files_to_download(
    answer: Any, write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a long talk.flac", seconds=7)
    probabilities, over_time, plot, table, csv, textgrid = answer(str(clip))
    assert set(probabilities) == set(EMOTIONS)
    assert over_time.visible
    assert len(plot.axes) > 1
    assert table[0][0] == "0.00"
    assert table[-1][1] == "7.00"
    assert {row[2] for row in table} <= set(EMOTIONS)
    assert all(row[3].endswith(" %") for row in table)
    assert Path(csv).name == "a long talk.csv"
    assert Path(csv).read_text().count("\n") == len(table) + 1
    assert Path(textgrid).read_text().count("text = ") == len(table)


def test_silence_in_a_recording_has_no_probability(answer: Any, tmp_path: Path) -> None:
    tone = np.sin(np.arange(64_000) / 10) / 2
    soundfile.write(tmp_path / "pause.wav", np.concatenate([tone, np.zeros(160_000), tone]), 16_000)
    *_, table, _, _ = answer(str(tmp_path / "pause.wav"))
    assert [row[3] for row in table if row[2] == "silence"] == [""]


def test_a_long_recording_is_not_cut_into_ever_more_windows(
    answer: Any, classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = []

    def stop_here(*_: Any, hop: float, **__: Any) -> None:
        hops.append(hop)
        raise hf_ser.audio.AudioError("enough", "for this test")

    monkeypatch.setattr("hf_ser.inference.app.timeline", stop_here)
    for seconds in (60, 240):
        soundfile.write(tmp_path / "talk.wav", np.sin(np.arange(16_000 * seconds) / 10), 16_000)
        with pytest.raises(gradio.Error, match="enough"):
            answer(str(tmp_path / "talk.wav"))
    assert hops == [0.5, 2.0]


@pytest.mark.parametrize(
    ("name", "samples", "reason"),
    [
        ("silent.wav", np.zeros(16_000), "silent.wav is silent: its loudest sample is 0"),
        ("short.wav", np.ones(1_600) / 2, "too short: it lasts 0.10 s"),
        ("empty.wav", np.zeros(0), "is too short|is empty"),
        (
            "<b>long.flac",
            np.zeros(8_000 * (int(LONGEST) + 6)),
            "&lt;b&gt;long.flac is too long: it lasts more than 5 minutes",
        ),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_with_the_reason(
    answer: Any, tmp_path: Path, name: str, samples: np.ndarray, reason: str
) -> None:
    soundfile.write(tmp_path / name, samples, 8_000 if "long" in name else 16_000)
    with pytest.raises(gradio.Error, match=reason) as refused:
        answer(str(tmp_path / name))
    assert not refused.value.print_exception
    assert str(tmp_path) not in refused.value.message, "where the server keeps its files is nobody's business"


def test_a_file_that_is_no_audio_and_no_file_at_all(answer: Any, tmp_path: Path) -> None:
    (tmp_path / "voice.m4a").write_bytes(b"no audio" * 99)
    with pytest.raises(gradio.Error, match=r"voice\.m4a is unreadable: .*convert it to WAV or FLAC"):
        answer(str(tmp_path / "voice.m4a"))
    with pytest.raises(gradio.Error, match="no recording yet"):
        answer(None)


def test_the_page_says_which_emotions_and_that_it_cannot_read_minds(page: Any) -> None:
    texts = [part["props"]["value"] for part in page.get_config_file()["components"] if part["type"] == "markdown"]
    assert any("angry, happy or sad" in text for text in texts)
    assert any(LIMITS in text for text in texts)
    assert "cannot read what people feel" in LIMITS


def test_recordings_are_not_kept(page: Any) -> None:
    assert page.delete_cache == (3600, 3600)
    assert not page.analytics_enabled


RESULTS = {
    "base_model": "/somewhere/of/mine/hubert-mini",
    "method": "lora_qkv",
    "emotions": ["angry", "happy", "neutral", "sad"],
    "corpora": {"ravdess": {"clips": 1079, "speakers": 18}, "calls": {"clips": 2000, "speakers": 40}},
    "split": {"parts": {"test": {"speakers": 4}}, "speakers_shared_by_train_and_test": 0},
    "metrics": {"test": {"clips": 239, "accuracy": 0.594, "uar": 0.584}},
}


def test_what_is_said_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "my_run"
    (run / "adapter").mkdir(parents=True)
    (run / "results.json").write_text(json.dumps(RESULTS))
    text = describe(str(run))
    assert "`my_run`, fine-tuned (`lora_qkv`) from `hubert-mini`" in text
    assert "RAVDESS" in text
    assert "Acted speech: two sentences" in text
    assert "- calls. 2,000 clips of 40 speakers." in text
    assert (
        "59 % of 239 test clips right, UAR 58 % (guessing each of its 4 emotions equally often has 25.0 % UAR)" in text
    )
    assert "4 speakers; none was in training" in text
    assert "/somewhere" not in text
    assert "RAVDESS" in describe(str(run / "adapter"))


def test_shared_speakers_are_told(tmp_path: Path) -> None:
    split = {**RESULTS["split"], "speakers_shared_by_train_and_test": 3}
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, "split": split}))
    assert "3 of them were in training, so that this says little about anyone else" in describe(str(tmp_path))


def test_unknown_speakers_are_told(tmp_path: Path) -> None:
    def told(test: dict[str, int], **corpora: Any) -> str:
        split = {"parts": {"train": {"speakers": 9}, "test": test}, "speakers_shared_by_train_and_test": 0}
        results = {**RESULTS, "split": split, "corpora": corpora or RESULTS["corpora"]}
        (tmp_path / "results.json").write_text(json.dumps(results))
        return describe(str(tmp_path))

    none = told({"speakers": 0, "clips_without_speaker": 239})
    assert "Who speaks in the test is not known, and so not whether anyone of them was in training." in none
    assert "has 0 speakers" not in none
    assert "none was in training" not in none
    some = told({"speakers": 4, "clips_without_speaker": 20})
    assert (
        "The test has 4 known speakers (and 20 clips of unknown ones); whether any was in training cannot be told"
        in some
    )
    assert "- calls. 9 clips of 2 known speakers (and 3 clips of unknown ones)." in told(
        {"speakers": 4}, calls={"clips": 9, "speakers": 2, "clips_without_speaker": 3}
    )
    assert "- calls. 9 clips.\n" in told({"speakers": 4}, calls={"clips": 9, "speakers": 0, "clips_without_speaker": 9})


def test_a_corpus_that_is_called_as_another_one(tmp_path: Path) -> None:
    corpora = {"synthetic": {"clips": 9, "speakers": 3, "read_as": "dataset", "hub_dataset": "someone/synthetic"}}
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, "corpora": corpora}))
    assert "- synthetic. 9 clips of 3 speakers." in describe(str(tmp_path))


def test_a_recording_whose_name_is_no_unicode(
    answer: Any, write_clip: Callable[..., Path], rename_oddly: Callable[[Path], Path], tmp_path: Path
) -> None:
    odd = str(rename_oddly(write_clip(tmp_path / "talk.wav", seconds=4)))
    *_, csv, _ = answer(odd)
    assert Path(csv).name == "bad\\udcff.csv"
    Path(odd).write_bytes(b"no audio" * 99)
    with pytest.raises(gradio.Error, match=r"bad\\+udcff\.wav is unreadable"):
        answer(odd)


@pytest.mark.parametrize("text", [None, "{}", '{"exact_match": 0.5}', "[1, 2]", "no JSON"])
def test_what_is_not_known_is_not_made_up(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert "It comes without a run's results.json" in describe(str(tmp_path))


def test_what_is_said_of_a_model_on_the_hub(hub: Any, model: Path, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("lab/bare")
    api.create_repo("lab/run")
    api.upload_file(path_or_fileobj=json.dumps(RESULTS).encode(), path_in_repo="results.json", repo_id="lab/run")
    assert "[lab/run](https://huggingface.co/lab/run), fine-tuned" in describe("lab/run")
    assert "comes without" in describe("lab/bare")


def test_a_hub_that_cannot_be_reached_does_not_lack_anything() -> None:
    text = describe("lab/somewhere")
    assert "Its results.json could not be looked up" in text
    assert "comes without" not in text
