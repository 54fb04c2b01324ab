"""
What a Trainer saves as it goes along, and goes on from: whole, wherever the weights are; without an encoder that is frozen and is
where it was loaded from; and on a branch of the Hub, if the run shall outlive its machine.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from huggingface_hub import HfApi
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Trainer
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from hf_ser.hub import checkpoints
from hf_ser.training.adalora import is_adalora, load_ranks, save_ranks
from hf_ser.training.averaging import WeightAverage
from hf_ser.training.sharding import FSDPShards, Shards
from hf_ser.tuning import save_adapter

logger = logging.getLogger(__name__)

#: Not called as transformers calls weights: what opens a checkpoint would put a random encoder under them.
HEAD_WEIGHTS = "head.safetensors"


def save_head(model: Any, folder: Path) -> None:
    """
    Writes all weights and buffers outside the encoder into `folder`, which is made if need be.

    Args:
        model (`PreTrainedModel`): The model.
        folder (`Path`): A checkpoint.
    """
    encoder = f"{model.base_model_prefix}."
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(encoder)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / HEAD_WEIGHTS, metadata={"format": "pt"})


def load_head(model: Any, folder: Path) -> None:
    """
    Loads what [`save_head`] has written.

    Raises:
        RuntimeError: if it is of another head.
    """
    encoder = f"{model.base_model_prefix}."
    outcome = model.load_state_dict(load_file(folder / HEAD_WEIGHTS), strict=False)
    missing = [name for name in outcome.missing_keys if not name.startswith(encoder)]
    if missing or outcome.unexpected_keys:
        raise RuntimeError(
            f"{folder / HEAD_WEIGHTS} is of another head: it lacks {missing} and has {outcome.unexpected_keys}. Go on with the "
            "--head that the run began with."
        )


class CheckpointingTrainer(Trainer):
    """What [`hf_ser.training.SERTrainer`] is made of: transformers' Trainer, that saves and loads what this package trains."""

    model: Any
    #: What puts together a model that is spread over the processes.
    _shards: Shards | None
    #: Whether the whole encoder is frozen, and none of it is to be saved in a checkpoint.
    _head_alone: bool
    #: Parameters that an adapter must bring along, see `hf_ser.tuning.Tuned`.
    _new: tuple[str, ...]
    #: The mean of the last weights, if that is what is kept.
    average: WeightAverage | None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if _internal_call and output_dir and self._head_alone and not self._shards:  # a checkpoint
            if self.args.should_save:
                save_head(self.accelerator.unwrap_model(self.model), Path(output_dir))
                self.processing_class.save_pretrained(output_dir)
            return
        if not self._shards:
            super().save_model(output_dir, _internal_call)
            return
        whole = self._shards.gather(self.model)
        if self.args.should_save:
            self._write(whole, Path(output_dir or self.args.output_dir))

    def _save(self, output_dir: str | os.PathLike[str] | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            self._write(model, Path(output_dir or self.args.output_dir), state_dict)

    def _write(self, model: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
        if hasattr(model, "peft_config"):
            save_adapter(model, self._new, folder)
            if is_adalora(model):
                save_ranks(model, folder)
        else:
            model.save_pretrained(folder, state_dict=state_dict)
        self.processing_class.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.average and self.args.should_save:
            self.average.save(Path(output_dir))
        if not isinstance(self._shards, FSDPShards):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # Not the model once more: the checkpoint has it whole.
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.average:
            self.average.load(folder)
        has_head = (folder / HEAD_WEIGHTS).exists()
        if not isinstance(self._shards, FSDPShards):
            if has_head:
                load_head(self.accelerator.unwrap_model(self.model), folder)
            elif is_adalora(self.model):
                load_ranks(self.model, folder)
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        whole = self._shards.gather(self.model)
        if self.accelerator.is_main_process:
            if has_head:  # of a run that began in one process
                load_head(whole, folder)
            elif hasattr(whole, "peft_config"):
                set_peft_model_state_dict(whole, load_file(folder / "adapter_model.safetensors"))
            else:
                whole.load_state_dict(load_file(folder / "model.safetensors"))
        self._shards.scatter(self.model, whole)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if isinstance(self._shards, FSDPShards) or (Path(best) / HEAD_WEIGHTS).exists() or is_adalora(self.model):
            self._load_from_checkpoint(best)
        else:
            super()._load_best_model()

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        # The repository was made before the run began, by `hf_ser.hub.pushing.make_repository`.
        self.hub_model_id = self.args.hub_model_id
        self.push_in_progress = None

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Sends the run's checkpoints to a branch of their own, while training goes on."""
        if self.args.hub_strategy == HubStrategy.END:
            return
        self.accelerator.wait_for_everyone()  # each process writes a part of the checkpoint
        if not self.is_world_process_zero():
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not self.args.hub_always_push:
            return
        try:
            staged = checkpoints.stage(Path(self.args.output_dir))
        except OSError as error:
            logger.warning("the checkpoint does not go to the Hub: %s", error)
            return
        message = f"checkpoint after step {self.state.global_step}"
        where = (self.hub_model_id, self.args.hub_revision, self.args.hub_token)
        job = HfApi().run_as_future(checkpoints.upload, staged, *where, message)
        jobs: list[Any] = self.push_in_progress.jobs if busy and self.push_in_progress is not None else []
        self.push_in_progress = PushInProgress([*jobs, job])

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "A run is published whole, with its card: hf_ser.hub.push(FOLDER, 'user/name') or scripts/push.py"
        )
