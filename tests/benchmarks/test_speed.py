"""The speed benchmark on a tiny model and a handful of clips. No speed is tested."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import baseline
import gpu_check
import pytest
import soundfile
import speed
import torch
from baseline import BASELINE, VARIANTS, Settings, load_clips, set_up, write_clips
from speed import benchmark, table
from tasks import INFERENCE, OTHERS, classify, make_trainer

from hf_ser.corpora import CorpusError
from hf_ser.report.cost import operations


def in_this_process(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    return task(*arguments)


def small(model: Path, **given: Any) -> Settings:
    """As little as there can be."""
    few = {"clips": 5, "batch_sizes": [2], "steps": 2, "rounds": 1, "least_seconds": 0.01, "threads": 1}
    return Settings(model=str(model), **{**few, **given})


@pytest.fixture(scope="module")
def report(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = small(tiny_hubert, methods=["lora_classifier"], others=["inference"], rounds=2)
    found: dict[Any, dict[str, Any]] = {}

    def run(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """The second round has other speeds; to measure them takes as long again."""
        if (key := (task, *arguments[2:])) not in found:
            found[key] = task(*arguments)
            return found[key]
        faster = 1.1 + 0.1 * list(found).index(key)
        rates = {"clips_per_second": faster, "seconds": 1 / faster}
        return {name: value * rates[name] if name in rates else value for name, value in found[key].items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "processor_name", lambda: "NVIDIA A100-SXM4-80GB")
        return benchmark(settings, tmp_path_factory.mktemp("benchmark"), run)


def test_every_variant_is_measured(report: dict[str, Any]) -> None:
    expected = [("lora_classifier", variant) for variant in VARIANTS]
    expected += [("inference", way) for way in INFERENCE]
    assert [(line["group"], line["variant"]) for line in report["lines"] if "ratio" in line] == expected


def test_ratios_are_medians_of_interleaved_rounds(report: dict[str, Any]) -> None:
    lines = {(line["group"], line["variant"]): line for line in report["lines"]}
    for (group, variant), line in lines.items():
        rates = [one["clips_per_second"] for one in line["rounds"]]
        base = lines[group, "pipeline" if group == "inference" else BASELINE]
        ratios = [rate / one["clips_per_second"] for rate, one in zip(rates, base["rounds"], strict=True)]
        assert line["ratio"] == pytest.approx(median(ratios))
        if group == "inference":
            continue
        assert rates == pytest.approx([one["clips"] / one["seconds"] for one in line["rounds"]])
        half = lines[group, "bfloat16"]["rounds"]
        halves = [rate / one["clips_per_second"] for rate, one in zip(rates, half, strict=True)]
        assert line["half_ratio"] == pytest.approx(median(halves))
        if variant != "defaults":
            assert line["mfu"] == pytest.approx(
                line["share_of_matmul"] * report["peak"]["operations_per_second"] / 312e12
            )
        preparing = 4 / 5 * report["preparing"]["first"] if variant not in (BASELINE, "bfloat16") else 0.0
        caching = median(one["cache_seconds"] for one in line["rounds"])
        assert line["run_seconds"] == pytest.approx(preparing + caching + 50 * 4 / median(rates))
        assert line["run_ratio"] == pytest.approx(base["run_seconds"] / line["run_seconds"], rel=1e-3)


def test_the_results_are_shown(report: dict[str, Any], tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in json.dumps(report)  # no folder of this machine
    printed = table(report)
    assert all(name in printed for name in (*VARIANTS, *INFERENCE, "share of matmul", "MFU", "312 by the data sheet"))


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", None),  # slower than the H100 with SXM
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", None),
        ("Tesla T4", 65e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("AMD EPYC 9B14", None),
    ],
)
def test_the_data_sheet_of_a_gpu(name: str, rate: float | None) -> None:
    assert speed.data_sheet(name) == rate


def test_variants_differ_in_decoding_and_not_in_their_batches(
    tiny_hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = set_up(small(tiny_hubert, methods=["full"]), tmp_path)
    clips = load_clips(settings, tmp_path).select(range(4))
    read = []
    decode = baseline.read
    monkeypatch.setattr(baseline, "read", lambda audio: read.append(audio["bytes"]) or decode(audio))
    labels, reads = [], []
    for variant in (BASELINE, "prepared", "trainer"):
        trainer = make_trainer(settings, tmp_path, clips, "full", variant, max_steps=2)
        batches = [batch["labels"] for _ in range(2) for batch in trainer.get_train_dataloader()]
        labels.append([(batch if batch.ndim == 1 else batch.argmax(dim=1)).tolist() for batch in batches])
        reads.append([content is None for content in read])
        read.clear()
    assert labels[0] == labels[1] == labels[2]
    assert reads == [[True] * 8, [False] * 8, []]  # the baseline decodes each file in both epochs


@pytest.mark.parametrize(
    ("model", "method", "share"), [("tiny_hubert", "lora_classifier", 0.75), ("tiny_whisper", "lora_ff", 0.4)]
)
def test_frozen_layers_and_padding_are_not_computed(
    model: str, method: str, share: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No gradients of frozen layers; Whisper takes the clip and not 30 s."""
    settings = set_up(small(request.getfixturevalue(model), methods=[method]), tmp_path)
    clips = load_clips(settings, tmp_path).select(range(4))
    found = []
    for variant in (BASELINE, "trainer"):
        trainer = make_trainer(settings, tmp_path, clips, method, variant, max_steps=2)
        trainer.train()
        batch = next(iter(trainer.get_train_dataloader()))
        found.append(operations(partial(trainer.training_step, trainer.model_wrapped, batch)))
    assert found[1] < share * found[0]


def test_the_script_and_a_variant_that_fails_and_stops_no_other(
    tiny_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        if arguments[-1] == "prepared":
            raise MemoryError("memory is short")
        return task(*arguments)

    monkeypatch.setattr(speed, "benchmark", partial(benchmark, run=run))
    monkeypatch.setattr(speed, "start_process", lambda threads: None)
    words = "--clips 5 --batch_sizes 2 --steps 2 --rounds 1 --least_seconds 0.01 --methods lora_ff --variants baseline prepared cache"
    monkeypatch.setattr(
        "sys.argv", ["speed.py", *words.split(), "--model", str(tiny_whisper), "--output", str(tmp_path)]
    )
    assert speed.main() == 0
    report, printed = json.loads((tmp_path / "benchmark.json").read_text()), capsys.readouterr().out
    failed = "MemoryError: memory is short"
    others = [(group, way) for group, ways in OTHERS.items() for way in ways]
    assert [line.get("problem") for line in report["lines"]] == [None, failed, None, *[None] * len(others)]
    assert [(line["group"], line["variant"]) for line in report["lines"][-len(others) :]] == others
    probes = {line["variant"]: line for line in report["lines"] if line["group"] == "probe"}
    for line in probes.values():
        assert line["ratio"] == pytest.approx(
            line["rounds"][0]["clips_per_second"] / probes["scikit-learn"]["rounds"][0]["clips_per_second"]
        )
    # A LoRA in the first layer leaves nothing before it that is frozen.
    skipped = [line for line in report["lines"] if "skipped" in line]
    assert [(line["group"], line["variant"]) for line in skipped] == [("lora_ff", "cache")]
    assert failed in printed
    assert skipped[0]["skipped"] in printed


def test_synthetic_clips_have_the_rates_and_lengths_of_real_ones(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", 12)
    found = [soundfile.info(path) for path in sorted((tmp_path / "clips").glob("0*"))]
    assert len(found) == 12
    assert {info.samplerate for info in found} == {16_000, 24_000, 44_100, 48_000}
    assert {info.format for info in found} == {"WAV", "FLAC"}
    assert all(1.4 <= info.duration <= 7.1 for info in found)


def test_arguments_that_do_not_fit(tiny_hubert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clips=3: expected at least steps \* batch_sizes, 4"):
        small(tiny_hubert, clips=3)
    with pytest.raises(ValueError, match="expected baseline among them"):
        small(tiny_hubert, variants=["cache"])
    corpora = [write_clips(tmp_path / "clips", 4)]
    with pytest.raises(CorpusError, match="expected clips=5 usable files, found 4"):
        benchmark(small(tiny_hubert, corpora=corpora), tmp_path, in_this_process)


def test_a_task_in_a_process_of_its_own(tiny_hubert: Path, tmp_path: Path) -> None:
    settings = set_up(small(tiny_hubert, methods=["frozen"]), tmp_path)
    assert speed.in_own_process(classify, settings, tmp_path, "float32")["clips_per_second"] > 0


def test_the_check_of_a_gpu_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "start_process", lambda threads: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(tmp_path)])
    assert gpu_check.main() == 2
    assert "there is no CUDA device: nothing is checked" in capsys.readouterr().err
    sys.argv += ["--device", "cpu"]
    assert gpu_check.main() == 0
    printed = capsys.readouterr().out
    assert "share of matmul" in printed
    assert "MFU" not in printed  # of a processor there is no data sheet here
    (report,) = json.loads((tmp_path / "gpu_check.json").read_text())["models"]
    measured = [line for line in report["lines"] if "ratio" in line]
    variants = (BASELINE, "bfloat16", "memory", "cache")
    expected = [(m, v) for m in ("full", "frozen") for v in variants if (m, v) != ("full", "cache")]
    assert [(line["group"], line["variant"]) for line in measured] == expected + [
        ("inference", way) for way in INFERENCE
    ]
    for line in measured[: len(expected)]:
        assert list(line["rounds"][0]["sizes"]) == ["1", "2"]
        assert line["share_of_matmul"] > 0


def process_of(settings: Settings, work: Path, *names: str) -> dict[str, Any]:
    return {"process": os.getpid(), "seconds": settings.most_seconds}


def killed(settings: Settings, work: Path, *names: str) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_the_measurements_of_a_method_share_a_process_and_all_of_them_the_time(
    tiny_hubert: Path, tmp_path: Path
) -> None:
    settings = small(tiny_hubert)
    with closing(gpu_check.Measurements(time.perf_counter() + 1000, 4)) as run:
        first, second = (run(process_of, settings, tmp_path, "full", variant) for variant in (BASELINE, "cache"))
        with pytest.raises(BrokenProcessPool):
            run(killed, settings, tmp_path, "full", "memory")
        other = run(process_of, settings, tmp_path, "frozen", BASELINE)
    assert first["process"] == second["process"] != other["process"]
    assert first["seconds"] == pytest.approx(250 - gpu_check.START_SECONDS, abs=1)
    assert 250 < second["seconds"] < 334
    late = gpu_check.Measurements(time.perf_counter() - 1, 4)
    assert late(process_of, settings, tmp_path, "full", BASELINE) == {"skipped": "no time was left"}
