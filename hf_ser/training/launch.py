"""The command line that repeats a run: how its processes are launched, and the arguments of its script."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate.commands.launch import launch_command_parser

from hf_ser.hub.privacy import without_paths
from hf_ser.training.config import SERConfig

#: Arguments whose values never leave the machine.
SECRET = {"hub_token"}

#: FSDP settings whose environment variable is not named like their command-line option (`FSDP_X`, `--fsdp_x`).
FSDP = {"FSDP_TRANSFORMER_CLS_TO_WRAP": "fsdp_transformer_layer_cls_to_wrap"}
DEEPSPEED = {
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "deepspeed_config_file",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "zero_stage",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "zero3_init_flag",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "zero3_save_16bit_model",
    "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES": "deepspeed_moe_layer_cls_names",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
    "ACCELERATE_GRADIENT_CLIPPING": "gradient_clipping",
}


def launch_command(environment: Mapping[str, str], processes: int, machines: int = 1) -> list[str]:
    """
    The words of the command before the script's name, with the FSDP and DeepSpeed settings that differ from the defaults, which
    the launcher puts in the `environment` of its processes. `processes` are those on all machines; with several machines, the
    command is that of the first.
    """
    if environment.get("ACCELERATE_USE_FSDP") == "true":
        settings = {
            FSDP.get(name, name.lower()): value for name, value in environment.items() if name.startswith("FSDP_")
        }
        words = ["--use_fsdp", *_other_than_default(settings)]
    elif environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        settings = {DEEPSPEED[name]: value for name, value in environment.items() if name in DEEPSPEED}
        words = ["--use_deepspeed", *_other_than_default(settings)]
    else:
        words = ["--multi_gpu"] if processes > 1 else []  # without GPUs, too, or accelerate starts one process
    words += ["--num_processes", str(processes)]
    if machines > 1:
        words += ["--num_machines", str(machines), "--machine_rank", "0", "--main_process_ip", "ADDRESS_OF_RANK_0"]
    return ["accelerate", "launch", *words]


def _other_than_default(settings: Mapping[str, str]) -> list[str]:
    defaults = vars(launch_command_parser().parse_args(["script"]))
    # "auto", DeepSpeed's default, is not accepted on the command line.
    other = {
        name: value for name, value in sorted(settings.items()) if value not in ("auto", str(defaults.get(name, value)))
    }
    return [word for name, value in other.items() for word in (f"--{name}", value)]


def machines(training: SERConfig) -> int:
    """How many machines a run is on, each with as many processes as this one."""
    return training.world_size // int(os.environ.get("LOCAL_WORLD_SIZE") or training.world_size)


def launcher(training: SERConfig) -> list[str]:
    """The words of [`launch_command`] for the run that this process belongs to."""
    # Where the run's own arguments set the sharding, they are behind the script's name.
    environment = {} if training.fsdp or training.deepspeed else os.environ
    return launch_command(environment, training.world_size, machines(training))


def command(argv: Sequence[str], launched_by: Sequence[str]) -> str:
    """The command line that repeats a run, without the values of secret arguments and without paths of this machine."""
    words = [_last_part(word) for word in argv]
    words[0] = f"scripts/{Path(words[0]).stem.removeprefix('hf-ser ').replace('-', '_')}.py"
    for i, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name.lstrip("-").replace("-", "_") in SECRET:
            if equals:
                words[i] = f"{name}=***"
            elif i + 1 < len(words):
                words[i + 1] = "***"
    return shlex.join([*map(_last_part, launched_by), *words])


def _last_part(word: str) -> str:
    """A word of a command line, without where on this machine its file is."""
    name, equals, value = word.rpartition("=")
    if ".." in Path(value).parts:
        value = Path(value).name
    return str(without_paths(f"{name}{equals}{value}"))
