"""A model that is spread over two processes learns what it learns in one, and is saved whole."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from datasets import Dataset
from safetensors.torch import load_file
from trainings import checkpoints, fork_two

import hf_ser
from hf_ser.audio import read_mono
from hf_ser.modeling import StandardisedLinear
from hf_ser.modeling.kernels import WordDropout
from hf_ser.training import Arguments, SERTrainer, finetune, parse_arguments
from hf_ser.training.sharding import ZeroShards

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "scripts" / "recipes" / "accelerate"
METHODS = {
    "full": ["--method", "full", "--head", "stock"],
    # The loss of a dimension depends on all clips of a step at once.
    "adapter": ["--method", "adapter", "--head", "conv", "--targets", "emotion", "arousal"],
}
#: Two steps with the default head.
SHORT = ["--head", "linear", "--interpolation", "False", "--max_steps", "2"]
WEIGHTS = {"full": "model.safetensors"}
PARALLELISM = {
    "cpu_fsdp": (
        "FSDP 2",
        "--use_fsdp --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_cpu_ram_efficient_loading false",
    ),
    "deepspeed_zero2": ("DeepSpeed ZeRO-2", "--use_deepspeed"),
    "deepspeed_zero3": ("DeepSpeed ZeRO-3", "--use_deepspeed"),
}


@pytest.fixture(scope="module")
def arguments(speech: Path, steady_hubert: Path) -> Callable[..., list[str]]:
    """The arguments of a short run in float32 without dropout: of one process with batches of 6, of two with 3."""

    def build(method: str, processes: int, folder: Path) -> list[str]:
        return ["--corpora", f"synthetic={speech}", "--emotions", "angry", "sad", "happy", "--model_name_or_path", str(steady_hubert),
                "--bf16", "False", *METHODS[method], "--learning_rate", "1e-3", "--num_train_epochs", "2", "--logging_strategy", "steps",
                "--logging_steps", "1", "--per_device_train_batch_size", str(6 // processes), "--per_device_eval_batch_size", "5",
                "--save_total_limit", "9", "--frozen_cache_gb", "0", "--average_share", "0", "--disable_tqdm", "True",
                "--output_dir", str(folder)]  # fmt: skip

    return build


@pytest.fixture(scope="module")
def alone(arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process, by method, and `linear`, a short one with the default head."""
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        for dropout in (torch.nn.Dropout, WordDropout):
            patch.setattr(dropout, "forward", lambda self, hidden: hidden)
        for method in METHODS:
            finetune(parse_arguments(arguments(method, 1, root / method)))
        finetune(parse_arguments([*arguments("full", 1, root / "linear"), *SHORT]))
    return root


DEEPSPEED = (
    pytest.mark.deepspeed,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: make deepspeed"
    ),
)


@pytest.fixture(
    scope="module",
    params=["cpu_fsdp", *(pytest.param(name, marks=DEEPSPEED) for name in ("deepspeed_zero2", "deepspeed_zero3"))],
)
def shared_out(
    request: pytest.FixtureRequest, arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """
    The same runs of two processes, `linear` in bfloat16; and `resumed`, the one with adapters from its first checkpoint on.
    """
    root = tmp_path_factory.mktemp("launched") / request.param
    root.mkdir()
    plan: list[dict[str, Any]] = [{"argv": arguments(method, 2, root / method)} for method in METHODS]
    plan.append({"argv": [*arguments("full", 2, root / "linear"), *SHORT, "--bf16", "True"]})
    again = [*arguments("adapter", 2, root / "resumed"), "--resume_from_checkpoint", "True"]
    (root / "plan.json").write_text(json.dumps([*plan, {"argv": again, "resumed": str(root / "adapter")}]))
    if request.param == "cpu_fsdp":
        exitcodes = fork_two(["--config_file", str(RECIPES / "cpu_fsdp.yaml")], root / "plan.json", root / "printed")
        assert exitcodes == [0, 0], (root / "printed").read_text()[-5000:]
        return root
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(RECIPES / f"{request.param}.yaml"),
               "--main_process_port", "0", str(Path(__file__).with_name("launched.py")), str(root / "plan.json")]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return root


def losses(run: Path) -> list[float]:
    """Of training and of validation, as they were logged."""
    log = json.loads((checkpoints(run)[-1] / "trainer_state.json").read_text())["log_history"]
    return [entry.get("loss", entry.get("eval_loss")) for entry in log if "loss" in entry or "eval_loss" in entry]


class TestSharedModel:
    @pytest.mark.parametrize("method", METHODS)
    def test_it_learns_what_one_process_learns(self, method: str, alone: Path, shared_out: Path) -> None:
        assert len(losses(alone / method)) >= 10
        np.testing.assert_allclose(losses(shared_out / method), losses(alone / method), atol=1e-4)

    @pytest.mark.parametrize("method", METHODS)
    def test_its_metrics_are_those_of_one_process(self, method: str, alone: Path, shared_out: Path) -> None:
        one, two = (json.loads((root / method / "results.json").read_text()) for root in (alone, shared_out))
        kind, words = PARALLELISM[shared_out.name]
        for results, processes, parallelism in ((one, 1, None), (two, 2, kind)):
            training = results["training"]
            assert (training["processes"], training["machines"], training["parallelism"]) == (processes, 1, parallelism)
        assert two["command"].startswith(f"accelerate launch {words}")
        assert "--num_processes 2 scripts/" in two["command"]
        for part in ("validation", "test"):
            assert two["metrics"][part]["confusion_matrix"] == one["metrics"][part]["confusion_matrix"]
            assert two["metrics"][part]["eer"] == pytest.approx(one["metrics"][part]["eer"])

    @pytest.mark.parametrize("method", METHODS)
    def test_every_checkpoint_is_whole(self, method: str, alone: Path, shared_out: Path) -> None:
        name = WEIGHTS.get(method, "adapter_model.safetensors")
        assert len(checkpoints(shared_out / method)) == 2
        for one, two in zip(checkpoints(alone / method), checkpoints(shared_out / method), strict=True):
            expected, found = load_file(one / name), load_file(two / name)
            assert found.keys() == expected.keys()
            for key, weights in expected.items():
                # Adam's first steps have the sign of a gradient, however small.
                torch.testing.assert_close(found[key], weights, atol=3e-3, rtol=0, msg=key)

    @pytest.mark.parametrize("method", METHODS)
    def test_what_it_leaves_opens_and_gives_the_same_answers(
        self, method: str, alone: Path, shared_out: Path, speech: Path
    ) -> None:
        wave = read_mono(str(min(speech.rglob("*_sad_*.wav"))))
        answers = []
        for root in (alone, shared_out):
            opened = hf_ser.pipeline(str(root / method))
            inputs = opened.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt")
            with torch.no_grad():
                answers.append(opened.model(**inputs).logits)
        torch.testing.assert_close(answers[1], answers[0], atol=1e-3, rtol=0)  # a solved head amplifies rounding

    def test_in_16_bits_the_default_head_learns_what_it_learns_in_float32(self, alone: Path, shared_out: Path) -> None:
        assert len(losses(alone / "linear")) == 3
        np.testing.assert_allclose(losses(shared_out / "linear"), losses(alone / "linear"), rtol=0.1)

    def test_it_goes_on_as_if_it_had_not_stopped(self, shared_out: Path) -> None:
        np.testing.assert_allclose(losses(shared_out / "resumed"), losses(shared_out / "adapter"), atol=1e-6)
        results = json.loads((shared_out / "resumed/results.json").read_text())
        assert results["training"]["resumed_from"] == checkpoints(shared_out / "adapter")[0].name


def test_a_model_that_deepspeed_rounded_is_gathered_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for DeepSpeed itself: what trains has float32 weights there, and buffers are rounded with the model."""
    trained = {"0.linear.weight": torch.randn(4, 8), "0.linear.bias": torch.randn(4)}
    model = torch.nn.Sequential(StandardisedLinear(torch.nn.Linear(8, 4)), torch.nn.BatchNorm1d(4))
    model[1].requires_grad_(False)
    shards = ZeroShards(model)
    model[0].mean.normal_()  # the probe is solved later
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.bfloat16()
    model[1].running_mean.fill_(0.3)  # a statistic of the training
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    utils = SimpleNamespace(safe_get_full_fp32_param=lambda parameter: trained[names[id(parameter)]])
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(utils=utils))
    monkeypatch.setitem(sys.modules, "deepspeed.utils", utils)
    found = shards.gather(model).state_dict()
    for name, tensor in {**expected, **trained, "1.running_mean": torch.full((4,), 0.3).bfloat16().float()}.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_every_configuration(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.num_processes > 1
    assert not config.use_cpu  # with it accelerate starts one process


def assert_refused(arguments: Arguments, message: str) -> None:
    """Before anything is loaded, by a run and by a Trainer."""
    with pytest.raises(ValueError, match=message):
        finetune(arguments)
    assert not Path(arguments.training.output_dir).exists()
    with pytest.raises(ValueError, match=message):
        SERTrainer("no model", arguments.training, Dataset.from_dict({}), peft_config=arguments.tuning)


@pytest.mark.parametrize(
    ("launcher", "words", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, [], "set fsdp_version: 2"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, [], "fsdp_cpu_ram_efficient_loading"),
        ({}, ["--method", "adalora"], "method=adalora: it ranks single weights"),
        ({}, ["--save_on_each_node", "True"], "save_on_each_node=True: .* use an output_dir that all machines share"),
        (
            {"ACCELERATE_USE_FSDP": "false", "ACCELERATE_USE_DEEPSPEED": "true"},
            ["--method", "adalora"],
            "method=adalora",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_a_clip_is_read(
    launcher: dict[str, str],
    words: list[str],
    message: str,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed = parse_arguments([*arguments("full", 1, tmp_path / "run"), "--corpora", "ravdess=nowhere", *words])
    good = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
    for name, value in {**good, **launcher}.items():
        monkeypatch.setenv(name, value)
    assert_refused(parsed, message)


def test_one_process_with_several_gpus_is_refused(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    """Trap: transformers would use DataParallel, which averages what is a sum."""
    parsed = parse_arguments(arguments("full", 1, tmp_path / "run"))
    parsed.training._n_gpu = 2
    assert_refused(parsed, "one process sees 2 GPUs: start one process for each with accelerate")
