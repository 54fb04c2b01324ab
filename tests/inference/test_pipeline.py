"""A clip has the same probabilities alone, in any batch and in many files; clips that cannot be used are reported."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from predictions import make_sound
from small_files import write_clip
from tiny_models import save_adapted, save_model
from transformers import AudioClassificationPipeline

import hf_ser
from hf_ser import inference
from hf_ser.audio import AudioError
from hf_ser.inference.clips import Clip, Prediction
from hf_ser.memory import FittingParts
from hf_ser.pipeline import SERPipeline

KINDS = ["layer_norm", "group_norm"]
#: Threads that read ahead: as on a CPU, and as for a GPU.
READERS = [0, 3]


def noise(samples: int, seed: int) -> dict[str, Any]:
    """A clip of noise, each of another level and colour."""
    rng = np.random.default_rng(seed)
    samples_ = np.convolve(rng.standard_normal(samples), rng.uniform(0, 1, 1 + seed % 7), "same")
    return {"array": (rng.uniform(0.01, 0.3) * samples_).astype(np.float32), "sampling_rate": 16_000}


def plain(recogniser: SERPipeline, clip: dict[str, Any]) -> dict[str, float]:
    """The probabilities of transformers' own pipeline for a clip alone."""
    stock = AudioClassificationPipeline(
        model=recogniser.model, feature_extractor=recogniser.feature_extractor, device=recogniser.device
    )
    return by_label(stock(dict(clip), top_k=None))


def by_label(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in rows}


def run(recogniser: SERPipeline, sources: Any, **options: Any) -> list[Prediction]:
    return list(recogniser.predict(sources, **options))


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes. Error code 12"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
@pytest.mark.parametrize("readers", READERS)
def test_where_the_memory_runs_out_a_batch_is_cut(
    error: Exception,
    readers: int,
    layer_norm: SERPipeline,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(layer_norm, "reading_threads", readers)
    clips = [noise(samples, seed) for seed, samples in enumerate([9000, 400, 12_000, 700, 16_000, 3200])]
    expected = run(layer_norm, clips)
    monkeypatch.setattr(layer_norm, "in_fitting_parts", FittingParts(layer_norm.device))
    forward, sizes, most = layer_norm.model.forward, [], 40_000

    def limited(input_values: torch.Tensor, **kwargs: Any) -> Any:
        sizes.append(input_values.numel())
        if sizes[-1] > most:
            raise error
        return forward(input_values, **kwargs)

    monkeypatch.setattr(layer_norm.model, "forward", limited)
    for _ in range(2):
        for found, reference in zip(run(layer_norm, clips), expected, strict=True):
            assert found.probabilities == pytest.approx(reference.probabilities, abs=1e-5)
    assert [size > most for size in sizes] == [True, True, *[False] * (len(sizes) - 2)]
    assert min(sizes) == 400, "a part is padded to the longest clip of the batch"
    assert caplog.text.count("the memory ran out") == 2
    most = 10_000
    with pytest.raises(MemoryError, match="does not hold the model and one clip: cut clips into shorter segments"):
        run(layer_norm, clips)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [{"batch_seconds": 0.1}, {"batch_seconds": 1000.0}, {"batch_size": 3}])
def test_the_same_as_transformers_pipeline_in_any_batch(
    kind: str, batch: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    recogniser = request.getfixturevalue(kind)
    clips = [noise(samples, seed) for seed, samples in enumerate([9000, 400, 40_000, 700, 401, 16_000, 3200, 25_000])]
    answers = run(recogniser, clips, **batch)
    expected = [plain(recogniser, clip) for clip in clips]
    spread = np.ptp([[each[emotion] for emotion in sorted(each)] for each in expected], axis=0)
    assert spread.max() > 0.1, "the clips are too alike for the test"
    assert [answer.name for answer in answers] == [f"array {place}" for place in range(len(clips))]
    for answer, reference in zip(answers, expected, strict=True):
        assert answer.probabilities == pytest.approx(reference, abs=1e-4)
        assert answer.emotion == max(reference, key=reference.__getitem__)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_has_the_same_answer_by_its_path_and_among_many(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Files of every length, rate and number of channels, as paths, a folder, a pattern, bytes and a dataset."""
    recogniser = request.getfixturevalue(kind)
    shapes = [(0.4, 16_000, 1), (35.0, 8_000, 1), (1.3, 48_000, 2), (2.2, 44_100, 1)]
    paths = [tmp_path / f"{place}.wav" for place in range(len(shapes))]
    for seed, (path, (seconds, rate, channels)) in enumerate(zip(paths, shapes, strict=True)):
        array = noise(round(seconds * rate), seed)["array"]
        soundfile.write(path, np.stack([array] * channels, axis=1), rate, subtype="FLOAT")
    alone = [recogniser(str(path)) for path in paths]
    for rows in alone:
        assert [set(row) for row in rows] == [{"score", "label"}] * 4
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        assert sum(row["score"] for row in rows) == pytest.approx(1)
    contents = Dataset.from_dict({"sound": [{"bytes": path.read_bytes(), "path": None} for path in paths]})
    many: list[Any] = [
        recogniser(paths),
        recogniser(tmp_path, batch_size=4),
        recogniser(f"{tmp_path}/*.wav", batch_seconds=1.0),
        recogniser(contents.cast_column("sound", Audio())),
        recogniser(path.read_bytes() for path in paths),
        [[{"label": k, "score": v} for k, v in each.probabilities.items()] for each in recogniser.predict(tmp_path)],
    ]
    for answers in many:
        for rows, expected in zip(answers, alone, strict=True):
            assert by_label(rows) == pytest.approx(by_label(expected), abs=1e-5)
    samples = soundfile.read(paths[0], dtype="float32")[0]
    for source in (samples, torch.from_numpy(samples), {"array": samples, "sampling_rate": 16_000}):
        assert by_label(recogniser(source)) == pytest.approx(by_label(alone[0]), abs=1e-5)
    assert recogniser(paths[2], top_k=1) == recogniser(paths[2])[:1]


def test_bad_files_among_good_ones(layer_norm: SERPipeline, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", seconds=0.5)
    (tmp_path / "b.wav").write_bytes(b"RIFF and nothing more")
    write_clip(tmp_path / "c.flac", seconds=0.7)
    soundfile.write(tmp_path / "d.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "e.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "f.wav", np.full(399, 0.1), 16_000)
    soundfile.write(tmp_path / "g.wav", np.full(900, np.nan), 16_000, subtype="FLOAT")
    write_clip(tmp_path / "h.ogg", seconds=0.6)
    answers = run(layer_norm, tmp_path)
    assert [Path(answer.name).name[0] for answer in answers] == list("abcdefgh")
    reasons = [answer.problem and answer.problem.partition(":")[0] for answer in answers]
    assert reasons == [None, "unreadable", None, "empty", "silent", "too short", "not finite", None]
    for answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(0 if answer.problem else 1)
        assert (answer.emotion is None) == bool(answer.problem)
    assert answers[2].duration == pytest.approx(0.7)
    assert [answer.emotion for answer in run(layer_norm, tmp_path / "b.wav")] == [None]
    assert run(layer_norm, []) == []
    with pytest.raises(AudioError, match=r"silent: .*e\.wav"):
        layer_norm(tmp_path / "e.wav")


def test_a_long_clip_has_the_mean_of_its_segments(pitch: SERPipeline) -> None:
    clip = np.concatenate([make_sound(1.2), make_sound(1.2, 900), make_sound(1.2, 1700)])
    (answer,) = run(pitch, {"array": clip, "sampling_rate": 16_000}, longest=1.25, batch_seconds=2.4)
    thirds = [{"array": part, "sampling_rate": 16_000} for part in np.split(clip, 3)]
    expected = np.mean([part.probabilities["high"] for part in run(pitch, thirds)])
    assert answer.probabilities["high"] == pytest.approx(expected, abs=1e-6)
    assert answer.duration == pytest.approx(3.6)
    assert pitch.model.shapes[:2] == [(2, 19_200), (1, 19_200)]


def test_silence_in_a_long_clip_does_not_count(pitch: SERPipeline) -> None:
    clip = np.concatenate([make_sound(2, 2000), np.zeros(2 * 16_000, np.float32)])
    (answer,) = run(pitch, {"array": clip, "sampling_rate": 16_000}, longest=2)
    (spoken,) = run(pitch, {"array": clip[:32_000], "sampling_rate": 16_000}, longest=2)
    assert answer.probabilities == pytest.approx(spoken.probabilities)


@pytest.mark.parametrize("readers", READERS)
def test_reads_a_few_pools_ahead_and_no_more(readers: int, pitch: SERPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.clips, "POOL_CLIPS", 4)
    pitch.reading_threads = readers
    threads = threading.active_count()
    given_out = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal given_out
        while True:
            given_out += 1
            yield {"array": make_sound(0.1), "sampling_rate": 16_000}

    coming = pitch.predict(endless())
    assert [next(coming).name for _ in range(10)] == [f"array {place}" for place in range(10)]
    assert given_out <= 4 * (5 + readers) + readers  # a batch is a pool here
    coming.close()  # type: ignore[attr-defined]
    assert not torch.is_inference_mode_enabled()
    assert threading.active_count() == threads


def test_threads_that_read_ahead_change_no_prediction(
    layer_norm: SERPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor their order, nor whose problem it is, nor PyTorch's own threads."""
    monkeypatch.setattr(inference.clips, "POOL_CLIPS", 5)
    computing = torch.get_num_threads()
    for place in range(17):
        if place % 4 == 2:
            (tmp_path / f"{place:02}.wav").write_bytes(b"no audio")
        else:
            samples = noise(1500 + 1700 * (place * 7 % 11), place)["array"]
            soundfile.write(tmp_path / f"{place:02}.wav", samples, (16_000, 48_000)[place % 2], subtype="FLOAT")
    expected = run(layer_norm, tmp_path, batch_seconds=1.5)
    monkeypatch.setattr(layer_norm, "reading_threads", 3)
    assert run(layer_norm, tmp_path, batch_seconds=1.5) == expected
    assert torch.get_num_threads() == computing
    shown = [Path(answer.name).stem for answer in expected if answer.problem]
    assert shown == ["02", "06", "10", "14"]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["group_norm_hubert", "tiny_data2vec", "tiny_whisper", "parallel_adapter"])
def test_clips_that_are_computed_at_once_change_no_prediction(
    kind: str, precision: str, tiny_hubert: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Trap: a group norm and a parallel adapter keep something of a batch until they are called again."""
    if kind == "parallel_adapter":
        folder = save_adapted(tiny_hubert, tmp_path, kind, trained=True)
    else:
        folder = save_model(request.getfixturevalue(kind), tmp_path / kind, gain=30)
    recogniser = hf_ser.pipeline(folder, precision=precision, device="cpu")
    clips = [noise(samples, seed) for seed, samples in enumerate(range(4000, 20_000, 500))]
    expected = run(recogniser, clips, batch_size=2)
    torch.set_num_threads(3)
    for found, reference in zip(run(recogniser, clips, batch_size=2), expected, strict=True):
        assert found.probabilities == pytest.approx(reference.probabilities, abs=1e-5)
    assert torch.get_num_threads() == 3
    assert np.ptp([one.probabilities["sad"] for one in expected]) > 0.01


def test_one_clip_has_all_threads_and_several_share_them(
    layer_norm: SERPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time does not decide: with another number of threads, probabilities have other last digits."""
    extract, used = layer_norm.feature_extractor, set[tuple[bool, int]]()

    def noting(*arguments: Any, **options: Any) -> Any:
        used.add((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return extract(*arguments, **options)

    monkeypatch.setattr(layer_norm, "feature_extractor", noting)
    torch.set_num_threads(4)
    clip = noise(20_000, 0)
    for sources, expected in ((clip, (True, 4)), ([clip] * 2, (False, 2)), (iter([clip]), (False, 2))):
        run(layer_norm, sources, longest=1)
        assert used == {expected}
        used.clear()
    layer_norm.timeline(clip, window=0.5)
    assert used == {(False, 2)}


def test_long_recordings_are_read_one_after_another(pitch: SERPipeline) -> None:
    """However many threads read: each may fill the memory."""
    pitch.reading_threads = 3
    reading_now, most, lock = 0, {}, threading.Lock()

    def clip(name: str, seconds: float) -> Clip:
        def read() -> np.ndarray:
            nonlocal reading_now
            with lock:
                reading_now += 1
                most[seconds] = max(most.get(seconds, 0), reading_now)
            time.sleep(0.01)
            with lock:
                reading_now -= 1
            return make_sound(seconds)

        return Clip(name, read)

    for seconds in (0.1, 2.0):
        run(pitch, [clip(str(place), seconds) for place in range(12)], batch_seconds=0.11)  # pools of 1.76 s
    assert most == {0.1: 3, 2.0: 1}


def test_what_fails_leaves_no_threads(pitch: SERPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pitch.reading_threads = 3
    threads = threading.active_count()

    def interrupted() -> Iterator[dict[str, Any]]:
        yield from (noise(4000, seed) for seed in range(5))
        raise OSError("the connection is lost")

    with pytest.raises(OSError, match="the connection is lost"):
        run(pitch, interrupted())

    def fails(**inputs: torch.Tensor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pitch.model, "forward", fails)
    with pytest.raises(KeyboardInterrupt):
        run(pitch, [noise(4000, seed) for seed in range(50)], batch_size=2)
    assert threading.active_count() == threads


@pytest.mark.parametrize(("readers", "computed"), zip(READERS, [1, 2], strict=True))
def test_outputs_are_fetched_from_a_gpu_when_the_next_batch_is_queued(
    readers: int, computed: int, pitch: SERPipeline
) -> None:
    pitch.reading_threads, extracting = readers, list[str]()
    extract = pitch.feature_extractor

    def noting(*arguments: Any, **options: Any) -> Any:
        extracting.append(threading.current_thread().name)
        return extract(*arguments, **options)

    pitch.feature_extractor = noting
    classified = pitch.classify([make_sound(0.1)] * 12, batch_seconds=60, batch_size=2)
    next(classified)
    assert len(pitch.model.shapes) == computed
    assert len(list(classified)) == 5
    assert len(extracting) == len(pitch.model.shapes) == 6
    assert (threading.main_thread().name in extracting) == (not readers)


@pytest.mark.parametrize("readers", READERS)
def test_predictions_do_not_wait_for_a_slow_source(
    readers: int, pitch: SERPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.clips, "POOL_CLIPS", 2)
    pitch.reading_threads = readers
    predicted = threading.Event()

    def slow() -> Iterator[dict[str, Any]]:
        yield from (noise(4000, seed) for seed in range(2 + readers))
        assert predicted.wait(20)
        yield noise(4000, 9)

    found = []
    for prediction in pitch.predict(slow()):
        found.append(prediction)
        predicted.set()
    assert len(found) == 3 + readers


def test_little_of_a_batch_is_padding_and_none_exceeds_its_budget(pitch: SERPipeline) -> None:
    lengths = np.random.default_rng(0).integers(400, 60_000, 200)
    run(pitch, [noise(int(length), 1) for length in lengths], batch_seconds=20)
    sizes = [clips * samples for clips, samples in pitch.model.shapes]
    assert max(sizes) <= 20 * 16_000
    assert sum(sizes) < 1.1 * lengths.sum()


def test_arguments_are_checked_at_once(pitch: SERPipeline, tmp_path: Path) -> None:
    """Not when the first prediction is asked for."""
    with pytest.raises(FileNotFoundError, match="gone"):
        pitch.predict([tmp_path / "gone"])
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"batch_seconds: must be more than 0 s and finite, found {seconds}"):
            pitch.predict([], batch_seconds=seconds)
    for longest in (0.5, float("nan")):
        with pytest.raises(ValueError, match=f"longest: must be at least 1 s, found {longest}"):
            pitch.predict([], longest=longest)
    with pytest.raises(ValueError, match="batch_size: must be at least 1, found 0"):
        pitch.predict([], batch_size=0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("problem_type", "multi_label_classification", "problem_type is 'multi"),
        ("id2label", {0: "a", 1: "a"}, "are called 'a'"),
    ],
)
def test_other_classifiers_are_refused(pitch: SERPipeline, name: str, value: Any, message: str) -> None:
    setattr(pitch.model.config, name, value)
    with pytest.raises(ValueError, match=message):
        SERPipeline(model=pitch.model, feature_extractor=pitch.feature_extractor, device="cpu")
