"""Which clips train, which validate, and which test: by speaker, at random, in folds, official, or from a file."""

from hf_ser.splits.audit import check, describe, shared_speakers, speakers_of
from hf_ser.splits.files import SavedSplit, differences, read_splits, require_same_splits, save_splits
from hf_ser.splits.making import (
    PARTS,
    Indices,
    SplitError,
    cross_corpus_split,
    official_folds,
    official_split,
    parts_of,
    speaker_folds,
    train_test_split,
)

__all__ = [
    "PARTS",
    "Indices",
    "SavedSplit",
    "SplitError",
    "check",
    "cross_corpus_split",
    "describe",
    "differences",
    "official_folds",
    "official_split",
    "parts_of",
    "read_splits",
    "require_same_splits",
    "save_splits",
    "shared_speakers",
    "speaker_folds",
    "speakers_of",
    "train_test_split",
]
