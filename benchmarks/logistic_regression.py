"""
What twenty lines of scikit-learn reach: logistic regression on the time-averaged states of all layers of a frozen encoder.

    python benchmarks/logistic_regression.py --model_name_or_path MODEL --corpora ravdess=FOLDER --split kfold --folds 3

takes the arguments of scripts/finetune.py, and uses this package to read the corpora and to split them, so that the clips are
those of its runs. Everything else is transformers and scikit-learn: `StandardScaler`, then `LogisticRegression(C=0.01)`, trained
on each fold's training part and, in a second column, on its training and validation part.
"""

import statistics
import sys
import warnings
from io import BytesIO

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from datasets import Dataset, concatenate_datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from hf_ser.audio import SAMPLING_RATE
from hf_ser.modeling import load_model
from hf_ser.training import parse_arguments
from hf_ser.training.cross_validation import fold_count
from hf_ser.training.data import load_parts


def states(model: str, clips: Dataset) -> npt.NDArray[np.float32]:
    """The mean over time of every layer's states and of what enters the first, `(clips, layers * hidden)`."""
    loaded = load_model(model, clips.features["label"].names)
    encoder, extractor = loaded.model.base_model.eval(), loaded.feature_extractor
    found = []
    for row in tqdm(clips, desc="frozen states", unit=" clips"):
        waveform, _ = soundfile.read(BytesIO(row["audio"]["bytes"]), dtype="float32")
        inputs = extractor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt", padding=True)
        with torch.no_grad():
            outputs = encoder(
                inputs[encoder.main_input_name],
                attention_mask=inputs["attention_mask"],
                output_hidden_states=True,
            )
        layers = (*outputs.hidden_states[:-1], outputs.last_hidden_state)
        found.append(torch.cat([layer[0].mean(dim=0) for layer in layers]).numpy())
    return np.stack(found)


def main() -> None:
    if not set(sys.argv[1:]) - {"-h", "--help"}:
        print(__doc__)
        return
    arguments = parse_arguments([*sys.argv[1:], "--output_dir", "unused"])
    known: dict[str, npt.NDArray[np.float32]] = {}
    table = []
    for fold in range(fold_count(arguments)):
        arguments.script.fold = fold
        parts = load_parts(arguments)
        if not known:  # every fold has all clips
            clips = concatenate_datasets(list(parts.values()))
            known = dict(zip(clips["clip"], states(arguments.script.model_name_or_path, clips), strict=True))
        features = {part: np.stack([known[name] for name in clips["clip"]]) for part, clips in parts.items()}
        row = []
        for train in (["train"], ["train", "validation"]):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            labels = np.concatenate([parts[part]["label"] for part in train])
            model.fit(np.concatenate([features[part] for part in train]), labels)
            found = model.predict(features["test"])
            row.append(100 * recall_score(parts["test"]["label"], found, average="macro"))
        table.append(row)
    print("| test part | UAR, trained on train | UAR, trained on train and validation |\n|---|---|---|")
    for fold, row in enumerate(table):
        print(f"| fold {fold} | {row[0]:.1f} % | {row[1]:.1f} % |")
    print("| mean | " + " | ".join(f"{statistics.mean(column):.1f} %" for column in zip(*table, strict=True)) + " |")


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
