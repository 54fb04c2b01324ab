"""
The checkpoints of a Trainer: complete even where the weights are sharded, without an encoder that is frozen as a whole, and
copied to a branch of the Hub on request.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import HubStrategy, rotate_checkpoints
from transformers.utils import PushInProgress
from transformers.utils.hub import hf_api

from hf_ser.hub import checkpoints
from hf_ser.hub.errors import explained
from hf_ser.training.adalora import is_adalora, load_ranks, save_ranks
from hf_ser.training.attributes import temporarily
from hf_ser.training.base import BaseTrainer
from hf_ser.training.folder import delete_entries
from hf_ser.training.sharding import FSDPShards
from hf_ser.tuning import save_adapter

#: Not the name that transformers gives to weights: whatever opens a checkpoint would add a random encoder.
HEAD_WEIGHTS = "head.safetensors"


def head_weights(model: Any) -> dict[str, torch.Tensor]:
    """Copies of all weights and buffers outside the encoder, by name, on the CPU."""
    encoder = f"{model.base_model_prefix}."
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
        if not name.startswith(encoder)
    }


def load_head(model: Any, folder: Path) -> None:
    """
    Loads the [`head_weights`] of a checkpoint.

    Raises:
        RuntimeError: if it belongs to another head.
    """
    encoder = f"{model.base_model_prefix}."
    outcome = model.load_state_dict(load_file(folder / HEAD_WEIGHTS), strict=False)
    missing = [name for name in outcome.missing_keys if not name.startswith(encoder)]
    if missing or outcome.unexpected_keys:
        raise RuntimeError(
            f"{folder / HEAD_WEIGHTS} belongs to another head: it lacks {missing} and has {outcome.unexpected_keys}. Resume with "
            "the head that the run started with."
        )


class CheckpointingTrainer(BaseTrainer):
    """A [`~hf_ser.training.base.BaseTrainer`] that saves, uploads and resumes checkpoints."""

    push_in_progress: PushInProgress | None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model of a checkpoint: only the head, if the whole encoder is frozen."""
        model = self._shards.gather(self.model) if self._shards else self.accelerator.unwrap_model(self.model)
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.folder)
        if self._head_alone and not self._shards:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(head_weights(model), folder / HEAD_WEIGHTS, metadata={"format": "pt"})
        elif hasattr(model, "peft_config"):
            save_adapter(model, self._new, folder)
            if is_adalora(model):
                save_ranks(model, folder)
        else:
            model.save_pretrained(folder)
        self.processing_class.save_pretrained(folder)

    def _finalize_training(self, *arguments: Any) -> Any:
        # The last checkpoint is deleted once the results are written, see `keep_best_checkpoint`.
        with temporarily(self.args, save_total_limit=None):
            return super()._finalize_training(*arguments)

    def keep_best_checkpoint(self) -> None:
        """Deletes the checkpoints of a finished run but the best, if `save_total_limit` is 1 and it has kept the best."""
        if self.args.save_total_limit == 1 and (best := self.state.best_model_checkpoint):
            folder = self.args.folder
            for checkpoint in folder.glob("checkpoint-[0-9]*"):
                if checkpoint.name != Path(best).name:
                    # Its state first: nothing that is left of it when the process is killed is resumed.
                    delete_entries(folder, (f"{checkpoint.name}/{TRAINER_STATE_NAME}", checkpoint.name))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = self.args.folder
        if self.args.should_save:  # one of the same step, which an interrupted run has left
            (folder / f"checkpoint-{self.state.global_step}" / TRAINER_STATE_NAME).unlink(missing_ok=True)
        try:
            with temporarily(self.args, save_total_limit=None):
                super()._save_checkpoint(model, trial)
        except Exception as error:
            if (free := shutil.disk_usage(folder).free / 1e6) > 100:
                raise
            raise OSError(
                f"output_dir: the checkpoint in {self.args.output_dir!r} is unfinished ({error}): {free:.0f} MB of the disk are "
                "free. Free space, and go on from the last one (resume_from_checkpoint)"
            ) from error
        if self.args.should_save:  # by their steps: transformers itself goes by a clock that may be set back
            rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.average and self.args.should_save:
            self.average.save(Path(output_dir))
        if not isinstance(self._shards, FSDPShards):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # Without the model, which the checkpoint has already.
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
            if has_head:  # the run started in one process
                load_head(whole, folder)
            elif hasattr(whole, "peft_config"):
                set_peft_model_state_dict(whole, load_file(folder / "adapter_model.safetensors"))
            else:
                whole.load_state_dict(load_file(folder / "model.safetensors"))
        self._shards.scatter(self.model, whole)

    def _load_best_model(self) -> None:
        # The folder of a resumed run may have been moved, or downloaded from the Hub.
        best = self.args.folder / Path(self.state.best_model_checkpoint).name
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        best = Path(self.state.best_model_checkpoint)
        if isinstance(self._shards, FSDPShards) or (best / HEAD_WEIGHTS).exists() or is_adalora(self.model):
            self._load_from_checkpoint(str(best))
        else:
            super()._load_best_model()

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        with explained(self.args.hub_model_id or self.args.output_dir):
            super().init_hf_repo(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Uploads the run's checkpoints to a branch of their own, while training continues."""
        if self.args.hub_strategy == HubStrategy.END:
            return
        self.accelerator.wait_for_everyone()  # each process writes a part of the checkpoint
        if not self.is_world_process_zero():
            return
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if busy and not self.args.hub_always_push:
            return
        args, message = self.args, f"checkpoint after step {self.state.global_step}"
        staged = checkpoints.stage(args.folder)
        where = (self.hub_model_id, args.hub_revision, args.hub_token)
        # The shared client uploads one folder after the other: the last upload is done when all are.
        job = hf_api().run_as_future(checkpoints.upload, staged, *where, message)
        self.push_in_progress = PushInProgress([job])
