"""The report of the example model, with every part, and one of a model and clips of which little is known."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_ser.report import plots

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/report.json"


def whole() -> dict[str, Any]:
    """A report with every part."""
    report: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    intervals, comparison = report["quality"]["intervals"], report["comparison"]
    intervals["speakers"] = {name: [low - 0.02, high + 0.02] for name, (low, high) in intervals["clips"].items()}
    comparison["speakers"] = {**comparison["clips"], "eer": None}
    report["model"]["label_map"] = {"hap": "happy"}
    report["clips"] |= {"other_emotions": {"boredom": 41}}
    report["leakage"] = {
        "speakers": ["ravdess_03"],
        "duplicates": [{"clip": "ravdess/a", "train_clip": "crema_d/b", "similarity": 0.9871, "exact": False}],
        "reason": None,
    }
    return report


@pytest.fixture
def report() -> dict[str, Any]:
    """A report with every part; the test may change it."""
    return whole()


@pytest.fixture(scope="package")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its pictures, which take seconds."""
    return plots.draw(whole(), tmp_path_factory.mktemp("pictures") / "new")


@pytest.fixture
def reduced(report: dict[str, Any]) -> dict[str, Any]:
    """No speakers, no genders, no optional part."""
    quality = report["quality"]
    quality |= {"speakers": {}, "genders": {}, "recall_intervals": None}
    quality["overall"]["eer"] = None
    quality["intervals"] |= {"speakers": None, "speakers_reason": "the clips' speakers are not known"}
    report["clips"] |= {"part": "all", "split": None, "speakers": None, "excluded": {}, "other_emotions": {}}
    empty = {"demographic_parity": None, "equality_of_odds": None}
    report["fairness"] |= {**empty, "clips": {}, "by_emotion": {}, "by_chance": {"draws": 1000, **empty},
                           "unknown": 239, "reason": "no clip's gender is known"}  # fmt: skip
    return report | dict.fromkeys(("comparison", "robustness", "cost", "leakage"))


@pytest.fixture
def manifest(speech: Path, tmp_path: Path) -> Callable[..., str]:
    """
    `manifest(emotion=..., arousal=...)` has the clips of the small corpus, or of another `folder`, and their columns; each one that
    is given is a function of the clip's number and row, or none. Clips without a row are left out.
    """

    def write(folder: Path = speech, keep: Callable[[str], bool] = lambda emotion: True, **columns: Any) -> str:
        rows = []
        for place, path in enumerate(sorted(folder.rglob("*.wav"))):
            speaker, emotion, _ = path.stem.split("_")
            row = {
                "path": path,
                "speaker": speaker,
                "gender": {"f": "female", "m": "male"}[speaker[0]],
                "emotion": emotion,
            }
            row |= {name: of and of(place, row) for name, of in columns.items()}
            if keep(emotion):
                rows.append(row)
        with (tmp_path / "clips.csv").open("w", newline="") as file:
            lines = csv.DictWriter(file, rows[0])
            lines.writeheader()
            lines.writerows(rows)
        return f"manifest={tmp_path / 'clips.csv'}"

    return write
