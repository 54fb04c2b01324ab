"""
What two processes train, exchange and print is what one does. They are started once, as that takes some
seconds.
"""

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import running_hub
from safetensors.torch import load_file
from trainings import BROKEN_CLIPS, fork_two, push_speech

from hf_ser.training import finetune, parse_arguments

Words = Callable[..., list[str]]
CONFIGURATION = Path(__file__).parents[2] / "scripts" / "recipes" / "accelerate" / "cpu.yaml"


@pytest.fixture(scope="module")
def lora(run_words: Words, steady_hubert: Path) -> Words:
    """A run of batches of 6, on however many processes."""

    def words(folder: Path, processes: int) -> list[str]:
        return run_words(
            folder, "--method", "lora_qkv", "--num_train_epochs", 2, "--learning_rate", 3e-3, "--lora_dropout", 0, "--bf16", "False",
            "--per_device_train_batch_size", 6 // processes, "--per_device_eval_batch_size", 5, "--noise_probability", 0.5,
            "--distort_probability", 0.5, "--mixup_alpha", 0.5, "--balance", "sampling", "--logging_strategy", "steps",
            "--logging_steps", 1, model=steady_hubert,
        )  # fmt: skip

    return words


@pytest.fixture(scope="module")
def seeds(run_words: Words) -> Words:
    return lambda folder, *more: run_words(folder, "--method", "frozen", "--bf16", "False", *more, "--seeds", 1, 2)


@pytest.fixture(scope="module")
def launched(lora: Words, seeds: Words, run_words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs `lora`, `streamed`, and `seeds`; and what was printed, as `printed`."""
    root = tmp_path_factory.mktemp("launched")
    with pytest.MonkeyPatch.context() as patch, running_hub(root / "hub", patch) as hub:
        streamed = ["--corpora", f"dataset={push_speech(broken=BROKEN_CLIPS)}", "--streaming", "True", "--method", "full",
                    "--bf16", "False", "--per_device_train_batch_size", 8]  # fmt: skip
        plan: list[dict[str, Any]] = [
            {"argv": lora(root / "lora", 2), "environment": {"HF_SER_CACHE": str(root / "cache")}},
            {"argv": run_words(root / "streamed", *streamed)},
            {"argv": seeds(root / "seeds"), "environment": {"HF_SER_CACHE": os.environ["HF_SER_CACHE"]}},
        ]
        (root / "plan.json").write_text(json.dumps(plan))
        exitcodes = fork_two(
            ["--config_file", str(CONFIGURATION)], root / "plan.json", root / "printed", hub.environment
        )
    assert exitcodes == [0, 0], (root / "printed").read_text()[-5000:]
    return root


def read(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results.json").read_text())
    return results


def losses(run: Path) -> list[float]:
    state = json.loads(min(run.glob("checkpoint-*/trainer_state.json")).read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_two_processes_have_the_losses_and_metrics_of_one_and_share_the_work_on_frozen_layers(
    launched: Path, lora: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = sorted((launched / "cache" / "frozen").rglob("*.safetensors"))
    segments = [(path.parent, key) for path in cached for key in load_file(path)]
    assert segments
    assert len(set(segments)) == len(segments)  # none was computed twice
    monkeypatch.setenv("HF_SER_CACHE", str(launched / "cache"))
    one, two = finetune(parse_arguments(lora(tmp_path / "one", 1))).to_dict(), read(launched / "lora")
    assert sorted((launched / "cache" / "frozen").rglob("*.safetensors")) == cached  # and later runs use it
    assert (one["training"]["processes"], two["training"]["processes"]) == (1, 2)
    assert one["training"]["clips_per_step"] == two["training"]["clips_per_step"] == 6
    for part in ("validation", "test"):
        assert two["metrics"][part]["clips"] == one["metrics"][part]["clips"]
        assert np.sum(two["metrics"][part]["confusion_matrix"]) == one["metrics"][part]["clips"]
        assert two["metrics"][part]["confusion_matrix"] == one["metrics"][part]["confusion_matrix"]
        assert two["metrics"][part]["eer"] == pytest.approx(one["metrics"][part]["eer"], abs=0.02)
    assert len(losses(tmp_path / "one")) >= 4
    np.testing.assert_allclose(losses(launched / "lora"), losses(tmp_path / "one"), rtol=2e-3)


def test_one_process_logs(launched: Path) -> None:
    printed = (launched / "printed").read_text()
    assert printed.count(f"the run is in {launched / 'lora'}") == 1
    assert printed.count("parameters train") == 4
    assert printed.count("| mean ± standard deviation |") == 1


def test_two_processes_exchange_which_streamed_clips_they_found_broken(launched: Path) -> None:
    results = read(launched / "streamed")
    assert results["excluded"] == {"clips": {"empty": 2, "too short": 1, "unreadable": 1}}
    assert (results["training"]["processes"], results["training"]["parallelism"]) == (2, "DDP")
    assert results["command"].startswith(
        "accelerate launch --multi_gpu --num_processes 2 scripts/finetune.py --corpora "
    )
    assert results["training"]["steps"] == -(-results["split"]["parts"]["train"]["clips"] // 16)
    # Each clip was decoded by one of the two: 0.4 s, unless it is broken.
    assert results["corpora"]["clips"]["hours"] == pytest.approx((96 - 4) * 0.4 / 3600, abs=6e-4)


def test_each_seed_is_a_run_of_its_own_and_finished_ones_are_kept(
    launched: Path, seeds: Words, run_script: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    root = launched / "seeds"
    for seed in (1, 2):
        results = read(root / f"seed-{seed}")
        assert results["seeds"]["training"] == seed
        assert results["training"]["processes"] == 2
        assert f"seed {seed}" in results["command"]
        assert "--seeds" not in results["command"]
        assert (root / f"seed-{seed}" / "README.md").exists()

    words = seeds(root, "--per_device_train_batch_size", 32)  # as many clips in a step as two processes with 16
    kept = (root / "seed-2" / "results.json").stat().st_mtime_ns
    (root / "seed-1" / "results.json").unlink()  # as if it was interrupted after its last checkpoint
    done = run_script("finetune", *words)
    assert done.returncode == 0
    assert (root / "seed-2" / "results.json").stat().st_mtime_ns == kept
    summary = json.loads((root / "seeds.json").read_text())
    assert [run["seed"] for run in summary["runs"]] == [1, 2]
    found = [read(root / f"seed-{seed}") for seed in (1, 2)]
    assert found[0]["training"]["resumed_from"]
    for name in ("accuracy", "f1_weighted"):
        values = [results["metrics"]["test"][name] for results in found]
        assert summary[name]["mean"] == pytest.approx(statistics.mean(values))
        assert summary[name]["standard_deviation"] == pytest.approx(statistics.stdev(values))
    probes = [results["probe"]["test"]["uar"] for results in found]
    assert summary["probe_uar"]["mean"] == pytest.approx(statistics.mean(probes))
    *_, last, mean = done.stdout.splitlines()
    assert last.startswith(f"| 2 | {100 * found[1]['metrics']['test']['uar']:.2f} |")
    assert f"| {100 * summary['mean']:.2f} ± {100 * summary['standard_deviation']:.2f} |" in mean
    done = run_script("finetune", *words, "--balance", "weights")
    assert done.returncode == 1
    assert "balance: found 'logits', given 'weights'\n" in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "3"], "seeds: seed is given, too; use one of them"),
        (["--push_to_hub", "True"], "push_to_hub: one run is published, and seeds trains 2"),
    ],
)
def test_what_does_not_go_with_seeds(
    more: list[str], message: str, seeds: Words, tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    done = run_script("finetune", *seeds(tmp_path / "runs", *more))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()
