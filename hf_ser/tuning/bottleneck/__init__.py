"""Bottleneck adapters, after the feed-forward of every layer or beside it (PEFT-SER, section II-C), as a PEFT tuner."""

from hf_ser.tuning.bottleneck.config import BottleneckConfig
from hf_ser.tuning.bottleneck.layer import BottleneckLayer
from hf_ser.tuning.bottleneck.model import BottleneckModel

__all__ = ["BottleneckConfig", "BottleneckLayer", "BottleneckModel"]
