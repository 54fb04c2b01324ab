"""Fine-tune pretrained speech encoders to recognise emotion in speech."""

from hf_ser.emotions import EMOTIONS
from hf_ser.hub import load

__all__ = ["EMOTIONS", "load"]
