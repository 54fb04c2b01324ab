"""The page's outputs, and its description of the model. Its look in a browser is in tests/scripts/test_demo.py."""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from small_files import rename_oddly, write_clip
from tiny_models import save_model

import hf_ser
from hf_ser.pipeline import SERPipeline

#: Users at once, and recordings one after the other.
USERS, RECORDINGS = (50, 1000) if os.environ.get("HF_SER_LOAD") else (5, 4)

gradio = pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'hf_ser[demo]'")

from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from hf_ser.app.page import LIMITS, LONGEST, describe, launch, make_page  # noqa: E402

EMOTIONS = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def page(model: Path) -> Any:
    return make_page(str(model))


@pytest.fixture(scope="module")
def answer(page: Any) -> Callable[[str | None], list[Any]]:
    """What the button does."""
    return next(function.fn for function in page.fns.values() if function.api_name == "predict")


def test_a_short_recording_has_probabilities_and_no_timeline(answer: Any, model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.wav", seconds=2, rate=44_100, channels=2)
    probabilities, *others = answer(str(clip))
    expected = {row["label"]: row["score"] for row in hf_ser.pipeline(model)(clip)}
    assert probabilities == pytest.approx(expected)
    assert set(probabilities) == set(EMOTIONS)
    assert others == [None, None, None]


def test_a_longer_one_has_a_timeline_and_files_to_download(answer: Any, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a long talk.flac", seconds=7)
    probabilities, plot, table, (csv, textgrid) = answer(str(clip))
    assert set(probabilities) == set(EMOTIONS)
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
    *_, table, _ = answer(str(tmp_path / "pause.wav"))
    assert [row[3] for row in table if row[2] == "silence"] == [""]


def test_a_long_recording_is_not_cut_into_ever_more_windows(
    answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = []

    def stop_here(*_: Any, hop: float, **__: Any) -> None:
        hops.append(hop)
        raise KeyboardInterrupt

    monkeypatch.setattr(SERPipeline, "timeline", stop_here)
    for seconds in (60, 240):
        soundfile.write(tmp_path / "talk.wav", np.sin(np.arange(16_000 * seconds) / 10), 16_000)
        with pytest.raises(KeyboardInterrupt):
            answer(str(tmp_path / "talk.wav"))
    assert hops == [0.5, 2.0]


@pytest.mark.parametrize(
    ("name", "samples", "reason"),
    [
        ("silent.wav", np.zeros(16_000), "silent.wav is silent: its loudest sample is 0"),
        ("short.wav", np.ones(300) / 2, "too short: it has 300 samples"),
        ("empty.wav", np.zeros(0), "is empty"),
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
    assert str(tmp_path) not in refused.value.message, "the message has no path of the server"


def test_a_file_that_is_no_audio_and_no_file_at_all(answer: Any, tmp_path: Path) -> None:
    (tmp_path / "voice.m4a").write_bytes(b"no audio" * 99)
    with pytest.raises(gradio.Error, match=r"voice\.m4a is unreadable: .*convert it to WAV or FLAC"):
        answer(str(tmp_path / "voice.m4a"))
    with pytest.raises(gradio.Error, match="no recording yet"):
        answer(None)


def test_the_page_has_the_emotions_and_the_limits(page: Any) -> None:
    texts = [part["props"]["value"] for part in page.get_config_file()["components"] if part["type"] == "markdown"]
    assert any("angry, happy or sad" in text for text in texts)
    assert any(LIMITS in text for text in texts)
    assert "cannot read what people feel" in LIMITS


def test_recordings_are_not_kept(page: Any) -> None:
    assert page.delete_cache == (3600, 3600)
    assert not page.analytics_enabled


RESULTS = json.loads((Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/results.json").read_text())
RESULTS |= {"base_model": "/somewhere/of/mine/hubert-mini", "method": "lora_qkv"}
RESULTS["corpora"]["calls"] = RESULTS["corpora"]["ravdess"]


@pytest.mark.parametrize(
    ("shared", "speakers"),
    [(0, "speakers who were in training: 0"), (3, "speakers who were in training: 3"), (None, "not known")],
)
def test_a_run_is_described(tmp_path: Path, shared: int | None, speakers: str) -> None:
    run = tmp_path / "my_run"
    (run / "adapter").mkdir(parents=True)
    split = {**RESULTS["split"], "speakers_shared_by_train_and_test": shared}
    (run / "results.json").write_text(json.dumps({**RESULTS, "split": split}))
    text = describe(str(run))
    assert "`my_run`, `hubert-mini` fine-tuned (`lora_qkv`) on ravdess, calls" in text
    assert "**Test:** UAR 58.8 %, accuracy 58.6 % on 239 clips" in text
    assert speakers in text
    assert "/somewhere" not in text
    assert "ravdess" in describe(str(run / "adapter"))


@pytest.mark.parametrize(("ccc", "written"), [(0.5123, "CCC 0.512"), (None, "no metric")])
def test_a_run_of_dimensions_alone_is_described(tmp_path: Path, ccc: float | None, written: str) -> None:
    """The CCC of clips that all have the same label is undefined."""
    results = {**RESULTS, "emotions": [], "targets": {"arousal": 1.0}, "metrics": {"test": {"clips": 36, "ccc": ccc}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert f"**Test:** {written} on 36 clips (speakers who were in training: 0)" in describe(str(tmp_path))


def test_a_recording_whose_name_is_no_unicode(answer: Any, tmp_path: Path) -> None:
    odd = str(rename_oddly(write_clip(tmp_path / "talk.wav", seconds=4)))
    *_, (csv, _) = answer(odd)
    assert Path(csv).name == "bad\\udcff.csv"
    Path(odd).write_bytes(b"no audio" * 99)
    with pytest.raises(gradio.Error, match=r"bad\\+udcff\.wav is unreadable"):
        answer(odd)


#: Of a run's test part.
NO_METRICS: list[dict[str, object]] = [{}, {"uar": "x"}, {"uar": None, "accuracy": None, "clips": None}]


@pytest.mark.parametrize(
    "text",
    [None, "{}", '{"exact_match": 0.5}', "[1, 2]", "no JSON"]
    + [json.dumps({**RESULTS, "metrics": {"test": test}}) for test in NO_METRICS],
)
def test_what_is_not_known_is_not_made_up(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    assert "Without a run's `results.json`" in describe(str(tmp_path))


def test_a_model_on_the_hub_is_described(hub: Any) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("lab/bare")
    api.create_repo("lab/run")
    api.upload_file(path_or_fileobj=json.dumps(RESULTS).encode(), path_in_repo="results.json", repo_id="lab/run")
    assert "[lab/run](https://huggingface.co/lab/run), `hubert-mini` fine-tuned" in describe("lab/run")
    assert "Without a run's" in describe("lab/bare")


def test_a_model_with_dimensions_shows_their_plane(tiny_hubert: Path, tmp_path: Path) -> None:
    page = make_page(str(save_model(tiny_hubert, tmp_path / "model", ("angry", "sad"), ("arousal", "valence"))))
    answer = next(function.fn for function in page.fns.values() if function.api_name == "predict")
    probabilities, *others, plane = answer(str(write_clip(tmp_path / "clip.wav", seconds=2)))
    assert set(probabilities) == {"angry", "sad"}
    assert others == [None, None, None]
    assert plane.axes[0].get_xlabel().startswith("valence")


class TestLoad:
    """The page as its users meet it: many at once, with recordings that are too long or too large, for a long time."""

    @pytest.fixture(scope="class")
    def address(self, page: Any) -> Iterator[str]:
        launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        yield page.local_url
        page.close()

    @staticmethod
    def client(address: str) -> Client:
        # Else it reads the system's certificates for each request, which takes longer than the page.
        return Client(address, verbose=False, ssl_verify=False)

    def test_each_of_many_users_gets_the_answer_to_the_own_recording(
        self, address: str, model: Path, tmp_path: Path
    ) -> None:
        clips = [write_clip(tmp_path / f"{user}.wav", seconds=3.5 + 0.01 * user) for user in range(USERS)]

        def use(clip: Path) -> tuple[float, str]:
            label, _, segments, files = self.client(address).predict(handle_file(clip), api_name="/predict")
            assert segments["data"][-1][1] == f"{soundfile.info(clip).duration:.2f}"
            return {each["label"]: each["confidence"] for each in label["confidences"]}["sad"], Path(files[0]).name

        with ThreadPoolExecutor(USERS) as users:
            found = list(users.map(use, clips))
        recogniser = hf_ser.pipeline(model)
        expected = [next(row["score"] for row in recogniser(clip) if row["label"] == "sad") for clip in clips]
        assert [score for score, _ in found] == pytest.approx(expected)
        assert [name for _, name in found] == [f"{user}.csv" for user in range(USERS)]

    def test_what_is_too_long_or_too_large_is_refused_with_the_limit_that_the_page_states(
        self, address: str, page: Any, tmp_path: Path
    ) -> None:
        client = self.client(address)
        label = next(part["props"]["label"] for part in page.get_config_file()["components"] if part["type"] == "audio")
        assert label == "Speech, up to 5 minutes and 90 MB"
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, 1800 * 16_000)
        soundfile.write(tmp_path / "talk.wav", noise, 16_000)
        with pytest.raises(AppError, match="talk.wav is too long: it lasts more than 5 minutes"):
            client.predict(handle_file(tmp_path / "talk.wav"), api_name="/predict")
        os.truncate(tmp_path / "talk.wav", 91 << 20)
        with (tmp_path / "talk.wav").open("rb") as file:
            answer = httpx.post(f"{address}gradio_api/upload", files={"files": file}, timeout=600)
        assert answer.status_code == 413
        assert f"{90 << 20} bytes" in answer.text

    def test_memory_and_disk_do_not_grow(self, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        here = SimpleNamespace(TemporaryDirectory=partial(tempfile.TemporaryDirectory, dir=tmp_path))
        monkeypatch.setattr("hf_ser.app.page.tempfile", here)

        def use(number: int) -> None:
            clip = write_clip(tmp_path / "clip.wav", seconds=1 + number % 4)  # the last of them with a timeline
            client.predict(handle_file(clip), api_name="/predict")

        def megabytes() -> float:
            return int(re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1000

        client, began = self.client(address), time.process_time()
        for number in range(4):
            use(number)
        before = megabytes()
        for number in range(RECORDINGS):
            use(number)
            if not number % 100:
                print(
                    f"{number} recordings: {megabytes():.0f} MB, {time.process_time() - began:.0f} s of processor time",
                    flush=True,
                )
        assert megabytes() < before + 100
        assert len(list(tmp_path.glob("hf_ser-*/*"))) == 2
