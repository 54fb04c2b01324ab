"""Embedding prompts before every encoder layer (PEFT-SER, section II-C and equation 2), as a PEFT tuner."""

from hf_ser.tuning.prompt.config import PromptConfig
from hf_ser.tuning.prompt.frames import start_at_frames
from hf_ser.tuning.prompt.layer import PromptLayer
from hf_ser.tuning.prompt.model import PromptModel

__all__ = ["PromptConfig", "PromptLayer", "PromptModel", "start_at_frames"]
