"""The README of a run's folder."""

from pathlib import Path
from typing import Any


def write_card(results: dict[str, Any], folder: Path) -> None:
    """Writes `README.md`: what the model does, its figures with their split, and how to use it."""
    adapter = (folder / "adapter_config.json").exists()
    test, split = results["metrics"]["test"], results["split"]
    figures = {
        "UAR": test["uar"],
        "accuracy": test["accuracy"],
        "weighted F1": test["f1_weighted"],
        "macro F1": test["f1_macro"],
        "EER": test["eer"],
    }
    rows = "\n".join(f"| {name} | {100 * value:.2f} % |" for name, value in figures.items() if value is not None)
    notes = "".join(f"\n> **Note:** {warning}\n" for warning in results["warnings"])
    corpora = ", ".join(f"{name} ({entry['clips']} clips)" for name, entry in results["corpora"].items())
    parts = ", ".join(
        f"{part} {entry['clips']} of {entry['speakers']} speakers" for part, entry in split["parts"].items()
    )
    base = results["base_model"]
    relation = f"base_model: {base}\n" if base.count("/") == 1 and not Path(base).expanduser().exists() else ""
    use = (
        "import hf_ser\n\nclassifier = hf_ser.load(FOLDER)"
        if adapter
        else 'from transformers import pipeline\n\nclassifier = pipeline("audio-classification", model=FOLDER)'
    )
    folder.joinpath("README.md").write_text(
        f"""---
library_name: {"peft" if adapter else "transformers"}
pipeline_tag: audio-classification
tags:
- speech-emotion-recognition
- hf_ser
{relation}---

# {Path(base).name} for speech emotion recognition

Tells apart {", ".join(results["emotions"])} in speech.
Fine-tuned from `{base if relation else Path(base).name}` on {corpora}.
Method: `{results["method"]}` ({results["parameters"]["trainable"]:,} of {results["parameters"]["total"]:,} parameters trained).

## Figures

On the test part of the `{split["name"]}` split: {test["clips"]} clips, {split["parts"]["test"]["speakers"]} speakers.
Speakers shared by train and test: {split["speakers_shared_by_train_and_test"]}.
{notes}
| metric | test |
|---|---|
{rows}

Clips: {parts}. Set aside: {results["set_aside"]} (`set_aside.csv`).
Kept: epoch {results["kept"]["epoch"]:g}, by {results["kept"]["by"]}.
Every figure is in `results.json`, which clip was where in `splits.json`.

![Confusion matrix](confusion_matrix.png)
![Training curves](training_curves.png)

## Use

```python
{use}
classifier({{"array": waveform, "sampling_rate": 16_000}})  # float32, one channel
```

The model was trained on recordings of {", ".join(results["corpora"])}: it knows how emotions sound there.
What people feel cannot be read off their voice.
""",
        encoding="utf-8",
    )
