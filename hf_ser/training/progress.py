"""What a training prints: one progress bar, and a line for each epoch."""

import logging
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import TrainerCallback

from hf_ser.wording import counted, per_cent

logger = logging.getLogger(__name__)

#: With fewer steps the log warns: an epoch on several GPUs has few, and the default learning rates suit more.
FEW_STEPS = 50


class Progress(TrainerCallback):
    """Says how long a training is, shows a bar over its steps, and logs a line for each evaluation."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.log: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Logs the number of steps and their clips, and opens the bar."""
        if state.is_world_process_zero:
            logger.info(
                "training: %s of %s (per_device_train_batch_size=%d, processes: %d, gradient_accumulation_steps=%d)",
                counted(state.max_steps, "step"),
                counted(args.clips_per_step, "clip"),
                args.train_batch_size,
                args.world_size,
                args.gradient_accumulation_steps,
            )
            if state.max_steps < FEW_STEPS and args.max_steps <= 0:
                logger.warning(
                    "a training of %s may change little: lower per_device_train_batch_size, which each process has, or raise "
                    "num_train_epochs or learning_rate",
                    counted(state.max_steps, "step"),
                )
            self.redirection = logging_redirect_tqdm()
            self.redirection.__enter__()
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                unit=" steps",
                disable=args.disable_tqdm,
                dynamic_ncols=True,
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Takes note of a loss; with an evaluation's metrics, logs the line."""
        self.log.update({name: value for name, value in (logs or {}).items() if isinstance(value, int | float)})
        if state.is_world_process_zero and "eval_loss" in self.log and self.bar is not None:
            logger.info("%s", line(self.log, state.epoch, state.num_train_epochs))
            self.log = {}

    def close(self) -> None:
        """Closes the bar, after an interruption, too: log lines go where they went before."""
        if self.bar is not None:
            self.bar.close()
            self.redirection.__exit__(None, None, None)
            self.bar = None


def line(log: Mapping[str, float], epoch: float, epochs: float) -> str:
    """`epoch 2/3: loss 1.102, validation loss 1.320, validation UAR 45.3 %, learning rate 0.0005`."""
    found = [f"loss {log['loss']:.3f}"] if "loss" in log else []
    found += [f"validation loss {log['eval_loss']:.3f}"]
    if "eval_uar" in log:
        found += [f"validation UAR {per_cent(log['eval_uar'])} %"]
    if "eval_ccc" in log:
        found += [f"validation CCC {log['eval_ccc']:.3f}"]
    if "learning_rate" in log:
        found.append(f"learning rate {log['learning_rate']:.2g}")
    return f"epoch {epoch:g}/{epochs:g}: {', '.join(found)}"
