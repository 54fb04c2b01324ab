"""One run with several seeds."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def words(speech: Path, tiny_hubert: Path, tmp_path: Path) -> list[str]:
    return ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(tiny_hubert), "--method", "frozen", "--bf16", "False", "--num_train_epochs",
            "1", "--emotions", "angry", "sad", "happy", "--disable_tqdm", "True", "--output_dir", str(tmp_path / "runs")]  # fmt: skip


def test_each_seed_is_a_run_of_its_own_and_finished_ones_are_kept(
    words: list[str], tmp_path: Path, run_script: Script
) -> None:
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "scripts/finetune.py", *words,
               "--seeds", "1", "2"]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert done.stdout.count("| mean ± standard deviation |") == 1
    for seed in ("1", "2"):
        results = json.loads((root / f"seed-{seed}" / "results.json").read_text())
        assert results["seeds"]["training"] == int(seed)
        assert results["training"]["processes"] == 2
        assert f"seed {seed}" in results["command"]
        assert "--seeds" not in results["command"]
        assert (root / f"seed-{seed}" / "README.md").exists()

    words += ["--per_device_train_batch_size", "32"]  # as many clips in a step as two processes with 16
    kept = (root / "seed-2" / "results.json").stat().st_mtime_ns
    (root / "seed-1" / "results.json").unlink()  # as if it was interrupted after its last checkpoint
    done = run_script("finetune", *words, "--seeds", "1", "2")
    assert done.returncode == 0
    assert (root / "seed-2" / "results.json").stat().st_mtime_ns == kept
    summary = json.loads((root / "seeds.json").read_text())
    assert [run["seed"] for run in summary["runs"]] == [1, 2]
    found = [json.loads((root / f"seed-{seed}" / "results.json").read_text()) for seed in (1, 2)]
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

    done = run_script("finetune", *words, "--seeds", "1", "--class_weights", "True")
    assert done.returncode == 1
    assert "class_weights: found False, given True\n" in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "3"], "seeds: seed is given, too; use one of them"),
        (["--push_to_hub", "True"], "push_to_hub: one run is published, and seeds trains 2"),
    ],
)
def test_what_does_not_go_with_seeds(
    more: list[str], message: str, words: list[str], tmp_path: Path, run_script: Script
) -> None:
    done = run_script("finetune", *words, *more, "--seeds", "1", "2")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()
