"""The benchmark on a tiny model and a handful of clips. Nothing here says how fast anything is."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor

from hf_ser.benchmark import (
    PLOT,
    RESULTS,
    Settings,
    benchmark,
    default_settings,
    peak,
    peer,
    save,
    table,
    tasks,
    training,
)
from hf_ser.benchmark import clips as benchmark_clips
from hf_ser.benchmark.run import complete
from hf_ser.benchmark.variants import BASELINE, METHODS, VARIANTS, Setup, setups
from hf_ser.report.cost import operations


def quick(work: Path, model: Path, **given: Any) -> Settings:
    """As little as there can be, with a model of the tests' own."""
    return default_settings(work, quick=True, model=str(model), threads=1, workers=0, **given)


@pytest.fixture(scope="module", autouse=True)
def small_products() -> Iterator[None]:
    """The best rate of the machine takes seconds to find, and is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak, "SIDES", {"cpu": (128,), "cuda": (128,)})
        patch.setattr(peak, "SECONDS", 0.01)
        yield


@pytest.fixture(scope="module")
def settings(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    work = tmp_path_factory.mktemp("benchmark")
    return complete(quick(work, tiny_hubert, methods=("lora_classifier", "full")), tasks.run)


@pytest.fixture(scope="module")
def report(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("benchmark")
    return benchmark(quick(work, tiny_hubert, methods=("lora_classifier", "full"), rounds=2, check=True), tasks.run)


def test_every_variant_of_every_method_is_in_the_report(report: dict[str, Any]) -> None:
    assert [(line["method"], line["variant"]) for line in report["training"]] == [
        (method, variant.name) for method in ("lora_classifier", "full") for variant in VARIANTS
    ]
    skipped = [(line["method"], line["variant"]) for line in report["training"] if "skipped" in line]
    assert skipped == [("full", "cache")]
    assert not [line for line in (*report["training"], *report["inference"]) if "problem" in line]
    assert [line["variant"] for line in report["inference"]] == [
        "pipeline",
        "hf_ser",
        "hf_ser, bfloat16",
        "hf_ser, int8",
    ]
    assert set(report["peak"]) == {"float32", "bfloat16"}
    assert json.loads(json.dumps(report)) == report


def test_ratios_are_those_of_the_times(report: dict[str, Any]) -> None:
    by_name = {(line["method"], line["variant"]): line for line in report["training"] if "ratio" in line}
    for (method, _), line in by_name.items():
        base = by_name[method, BASELINE]
        ratios = [
            one["clips_per_second"] / other["clips_per_second"]
            for one, other in zip(line["rounds"], base["rounds"], strict=True)
        ]
        assert line["ratio"] == pytest.approx(np.median(ratios))
        for one in line["rounds"]:
            # Two batches of two clips, again and again.
            assert one["clips_per_second"] == pytest.approx(2 * one["steps"] / one["seconds"])
            assert one["steps"] % 2 == 0
            speech = report["clips"]["training_seconds"] / report["clips"]["training_clips"]
            assert one["speech_per_second"] == pytest.approx(speech * one["clips_per_second"], rel=1e-4)
        best = report["peak"][line["precision"]]["flops_per_second"]
        assert line["share_of_peak"] == pytest.approx(line["flops_per_second"] / best)
    assert by_name["full", BASELINE]["ratio"] == 1
    assert by_name["full", BASELINE]["precision"] == "float32"


def test_a_whole_run_is_the_cache_once_and_all_epochs(report: dict[str, Any]) -> None:
    for line in report["training"]:
        if "ratio" not in line:
            continue
        whole = line["whole_run"]
        epochs = whole["epochs"] * whole["clips"] / line["clips_per_second"]
        assert whole["seconds"] == pytest.approx(epochs + whole["preparing_seconds"] + whole["cache_seconds"])
        base = next(other for other in report["training"] if other["method"] == line["method"])
        assert whole["ratio"] == pytest.approx(base["whole_run"]["seconds"] / whole["seconds"])
        assert (whole["cache_seconds"] > 0) == (line["variant"] == "cache")
        assert (whole["preparing_seconds"] > 0) == (line["variant"] != BASELINE)
        assert whole["extrapolated_from_epochs"] >= (2 if line["variant"] == "cache" else 1)


def test_less_is_computed_of_what_is_frozen(report: dict[str, Any]) -> None:
    """Operations, not times: the baseline goes back through the frozen encoder, and the cache does not go through it at all."""
    flops = {
        line["variant"]: line["rounds"][0]["flops_first_step"]
        for line in report["training"]
        if line["method"] == "lora_classifier"
    }
    assert flops[BASELINE] == flops["prepared"] == flops["bfloat16"]
    assert flops["frozen"] < 0.75 * flops[BASELINE]
    assert flops["cache"] < 0.1 * flops["frozen"]


def test_both_sides_learn_the_same(report: dict[str, Any]) -> None:
    for found in report["check"].values():
        assert list(found["losses"]) == [BASELINE, "frozen", "attention", "positions", "pieces", "memory", "cache"]
        assert all(len(losses) == 2 for losses in found["losses"].values())
        assert found["equal"], found


def test_what_it_leaves(report: dict[str, Any], tmp_path: Path) -> None:
    save(report, tmp_path / "out")
    assert (tmp_path / "out" / PLOT).read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / RESULTS).read_text()
    assert json.loads(text) == report
    assert str(tmp_path.parent) not in text  # no folder of this machine
    printed = table(report)
    assert all(variant.name in printed for variant in VARIANTS)
    assert "check of full: the same losses" in printed
    assert "nothing to keep" in printed


def test_the_baseline_decodes_at_every_access(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    decode = peer.read_file
    monkeypatch.setattr(peer, "read_file", lambda audio: read.append(audio["path"]) or decode(audio))
    clips = benchmark_clips.load(settings).first(4)
    trainer = training.plain_trainer(settings, clips, METHODS["lora_classifier"], Setup(), max_steps=4)
    trainer.train()  # two epochs of two batches of two clips
    assert len(read) == 8
    assert len(set(read)) == 4
    read.clear()
    own = training.own_trainer(settings, clips, METHODS["lora_classifier"], setups()["frozen"], max_steps=2)
    own.train()
    assert not read


def test_all_variants_take_the_clips_in_the_same_batches(settings: Settings) -> None:
    clips = benchmark_clips.load(settings).first(4)
    labels = []
    for setup in (Setup(), setups()["frozen"]):
        trainer = training.make_trainer(settings, clips, METHODS["full"], setup, max_steps=2)
        labels.append([batch["labels"].tolist() for batch in trainer.get_train_dataloader()])
    assert labels[0] == labels[1]


def test_operations_by_hand() -> None:
    layer = torch.nn.Linear(3, 5)
    inputs = torch.ones(7, 3)
    assert operations(lambda: layer(inputs)) == 2 * 7 * 3 * 5
    # On the way back the weights' gradient is one more product; nothing asks for the input's.
    assert operations(lambda: layer(inputs).sum().backward()) == 2 * 2 * 7 * 3 * 5


def test_made_up_clips_have_the_lengths_and_rates_of_real_ones(tmp_path: Path) -> None:
    [specification] = benchmark_clips.write(tmp_path, 12)
    assert specification == f"manifest={tmp_path / benchmark_clips.MANIFEST}"
    about = [soundfile.info(path) for path in sorted(tmp_path.glob("clip0*"))]
    assert len(about) == 12
    assert {info.samplerate for info in about} == {16_000, 24_000, 44_100, 48_000}
    assert {info.format for info in about} == {"WAV", "FLAC"}
    assert all(1.4 <= info.duration <= 7.1 for info in about)


def test_a_process_of_its_own_gives_the_same_and_its_problems(settings: Settings) -> None:
    found = tasks.run_apart(settings, "peak")
    assert found["float32"]["flops_per_second"] > 0
    with pytest.raises(tasks.TaskError, match="KeyError: 'nothing'"):
        tasks.run_apart(settings, "train", name="nothing", variant=BASELINE)


def test_a_variant_that_fails_does_not_stop_the_others(tiny_hubert: Path, tmp_path: Path) -> None:
    def run(settings: Settings, task: str, **told: Any) -> dict[str, Any]:
        if task == "train" and told["variant"] == "bfloat16":
            raise tasks.TaskError("memory is short")
        return tasks.run(settings, task, **told)

    given = {"methods": ("lora_classifier",), "variants": (BASELINE, "prepared", "bfloat16")}
    report = benchmark(quick(tmp_path, tiny_hubert, **given), run)
    assert report["training"][2]["problem"] == "memory is short"
    assert "ratio" in report["training"][1]
    assert "memory is short" in table(report)
    save(report, tmp_path / "out")


def test_whisper_hears_the_clip_and_not_30_seconds(tiny_whisper: Path, tmp_path: Path) -> None:
    given = {"methods": ("lora_ff", "head"), "variants": (BASELINE, "frozen", "cache")}
    report = benchmark(quick(tmp_path, tiny_whisper, **given), tasks.run)
    lines = {(line["method"], line["variant"]): line for line in report["training"]}
    assert "skipped" in lines["lora_ff", "cache"]
    assert lines["head", "cache"]["cached"] == "layers"
    flops = {key: line["rounds"][0]["flops_first_step"] for key, line in lines.items() if "rounds" in line}
    assert flops["lora_ff", "frozen"] < 0.4 * flops["lora_ff", BASELINE]
    assert any("conv head" in note for note in report["notes"])
    assert not [line for line in report["inference"] if "problem" in line]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ("lora",)}, "--methods: 'lora' is none of full"),
        ({"variants": ("frozen",)}, "--variants: baseline is missing"),
        ({"variants": (BASELINE, "magic")}, "--variants: 'magic' is none of baseline"),
        ({"clips": 3, "steps": 2, "batch_size": 2}, "--clips: 3 are too few for 2 steps of 2; give at least 4"),
        ({"rounds": 0}, "--rounds: must be at least 1, found 0"),
        ({"warm_up": -1}, "--warm_up: must not be below 0, found -1"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        default_settings(tmp_path, **given)


def test_a_corpus_with_too_few_clips(tiny_hubert: Path, tmp_path: Path) -> None:
    corpora = tuple(benchmark_clips.write(tmp_path / "clips", 4))
    settings = quick(tmp_path, tiny_hubert, corpora=corpora, clips=6, steps=1)
    with pytest.raises(ValueError, match="--clips: 6 are asked for, and the corpora have 4 that can be used"):
        benchmark_clips.load(settings)


def test_what_the_baseline_reads_by_can_be_sent_to_worker_processes(group_norm_hubert: Path) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(group_norm_hubert)
    rows = Dataset.from_dict({"audio": [[0.5, -0.5] * 400], "label": [3]})
    there = pickle.loads(pickle.dumps(peer.dataset(rows, extractor, np.asarray)))
    assert there[0]["labels"] == 3
    assert there[0]["input_values"].shape == (800,)
