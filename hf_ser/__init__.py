"""Fine-tune pretrained speech encoders to recognise emotion in speech."""

from hf_ser.clips import load_corpora
from hf_ser.emotions import EMOTIONS
from hf_ser.pipeline import pipeline
from hf_ser.splits import official_split, speaker_folds, train_test_split
from hf_ser.training import SERConfig, SERTrainer

__all__ = [
    "EMOTIONS",
    "SERConfig",
    "SERTrainer",
    "load_corpora",
    "official_split",
    "pipeline",
    "speaker_folds",
    "train_test_split",
]
