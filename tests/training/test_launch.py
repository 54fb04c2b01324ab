"""A run's command starts it as the launcher's configuration did."""

from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from hf_ser.training.launch import command, launch_command

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes" / "accelerate"


def environment_of(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that `accelerate launch` gives to the processes that it starts, all the rest of the environment aside."""
    with monkeypatch.context() as patch:
        patch.setattr("os.environ", {})
        arguments = launch_command_parser().parse_args([*argv, "--main_process_port", "0", "scripts/finetune.py"])
        arguments.deepspeed_fields_from_accelerate_config = ""
        arguments, _, _ = _validate_launch_command(arguments)
        if not arguments.use_deepspeed:
            environment = prepare_multi_gpu_env(arguments)
        else:
            _, environment = prepare_deepspeed_cmd_env(arguments)
    started = {"processes": str(arguments.num_processes), "machines": str(arguments.num_machines)}
    # "auto" is what is not said.
    return {name: value for name, value in {**environment, **started}.items() if value != "auto"}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_starts_what_the_configuration_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = environment_of(["--config_file", str(path)], monkeypatch)
    words = launch_command(configured, int(configured["processes"]), int(configured["machines"]))
    assert words[:2] == ["accelerate", "launch"]
    again = environment_of(words[2:], monkeypatch)
    assert "FSDP_VERSION" in again or "ACCELERATE_DEEPSPEED_ZERO_STAGE" in again or "--multi_gpu" in words
    assert again == configured


def test_one_process_needs_no_more() -> None:
    assert launch_command({"ACCELERATE_MIXED_PRECISION": "no"}, 1) == ["accelerate", "launch", "--num_processes", "1"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["finetune.py", "--hub_token", "hf_abc", "--seed", "1"], "scripts/finetune.py --hub_token '***' --seed 1"),
        (["/home/me/hf_ser/scripts/finetune.py", "--hub_token=hf_abc"], "scripts/finetune.py '--hub_token=***'"),
        (["finetune.py", "--corpora", "ravdess=/my data/RAVDESS"], "scripts/finetune.py --corpora ravdess=RAVDESS"),
        (["finetune.py", "--hub-token", "hf_abc"], "scripts/finetune.py --hub-token '***'"),
        (["hf-ser cross-corpus", "--seed", "1"], "scripts/cross_corpus.py --seed 1"),
        (
            ["finetune.py", "--corpora", "manifest=../../clients/list.csv"],
            "scripts/finetune.py --corpora manifest=list.csv",
        ),
        (
            ["finetune.py", "--output_dir=/runs/a/", "--model_name_or_path", "a/b"],
            "scripts/finetune.py --output_dir=a --model_name_or_path a/b",
        ),
    ],
)
def test_a_command_tells_no_token_and_no_path(argv: list[str], expected: str) -> None:
    assert command(argv, ["accelerate", "launch"]) == f"accelerate launch {expected}"
