"""Several tuners as one adapter: LoRA with bottlenecks, prompts, or other tuners of PEFT, as a PEFT tuner."""

from hf_ser.tuning.combined.config import CombinedConfig
from hf_ser.tuning.combined.model import CombinedModel

__all__ = ["CombinedConfig", "CombinedModel"]
