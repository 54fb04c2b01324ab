"""The command of `accelerate launch` that starts a run as it was started, without the configuration file that said how."""

from collections.abc import Mapping

from accelerate.commands.launch import launch_command_parser

#: Settings of FSDP that accelerate calls otherwise in the environment than on its command line; else `FSDP_X` is `--fsdp_x`.
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
    The words of a command line up to the script's name. Of FSDP and DeepSpeed they say what differs from accelerate's defaults.

    Args:
        environment (`Mapping[str, str]`): What the launcher has told the processes: its settings, and not the name of the file
            that it has read them from.
        processes (`int`): On all machines together.
        machines (`int`, defaults to 1): How many there are; the words are then those for the first of them.
    """
    if environment.get("ACCELERATE_USE_FSDP") == "true":
        told = {FSDP.get(name, name.lower()): value for name, value in environment.items() if name.startswith("FSDP_")}
        words = ["--use_fsdp", *_other_than_default(told)]
    elif environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        told = {DEEPSPEED[name]: value for name, value in environment.items() if name in DEEPSPEED}
        words = ["--use_deepspeed", *_other_than_default(told)]
    else:
        words = ["--multi_gpu"] if processes > 1 else []  # without GPUs, too: else accelerate would start one process
    words += ["--num_processes", str(processes)]
    if machines > 1:
        words += ["--num_machines", str(machines), "--machine_rank", "0", "--main_process_ip", "ADDRESS_OF_RANK_0"]
    return ["accelerate", "launch", *words]


def _other_than_default(told: Mapping[str, str]) -> list[str]:
    defaults = vars(launch_command_parser().parse_args(["script"]))
    # "auto" is what DeepSpeed's settings are by default, and cannot be said on the command line.
    other = {
        name: value for name, value in sorted(told.items()) if value not in ("auto", str(defaults.get(name, value)))
    }
    return [word for name, value in other.items() for word in (f"--{name}", value)]
