"""Fine-tune pretrained speech encoders to recognise emotion in speech."""

from hf_ser.emotions import EMOTIONS
from hf_ser.pipeline import pipeline

load = pipeline  # the name that tests still use

__all__ = ["EMOTIONS", "pipeline"]
