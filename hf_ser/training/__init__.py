"""Fine-tuning: arguments, the Trainer, and a run from corpora to a folder that can be published."""

from hf_ser.training.arguments import Arguments, ScriptArguments, parse_arguments
from hf_ser.training.config import SERConfig
from hf_ser.training.run import finetune
from hf_ser.training.trainer import SERTrainer

__all__ = ["Arguments", "SERConfig", "SERTrainer", "ScriptArguments", "finetune", "parse_arguments"]
