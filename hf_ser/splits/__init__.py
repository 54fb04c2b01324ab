"""Which clips train, which choose the model, and which test it: random, by speaker, k-fold, official, or from a file."""

from hf_ser.splits.checking import check
from hf_ser.splits.making import SPLITS, kfold, official, random, speaker
from hf_ser.splits.saved import NAMED_BY, SavedSplit, from_file, hash_name, hashed, require_same
from hf_ser.splits.split import PARTS, Clips, Indices, Split, SplitError

__all__ = [
    "NAMED_BY",
    "PARTS",
    "SPLITS",
    "Clips",
    "Indices",
    "SavedSplit",
    "Split",
    "SplitError",
    "check",
    "from_file",
    "hash_name",
    "hashed",
    "kfold",
    "official",
    "random",
    "require_same",
    "speaker",
]
