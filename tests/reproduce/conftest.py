"""Finished runs of the papers' experiments."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import Experiment, by_recipe

Write = Callable[..., Path]
EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/results.json"
LISTS = {"ravdess": "RAVDESS", "crema_d": "CREMA-D", "tess": "TESS", "savee": "SAVEE"}


@pytest.fixture
def lists(shared: Path) -> dict[str, str]:
    """The true file names of HuBERT-SER's corpora: PATH by NAME."""
    return {name: str(shared / "data" / "file-lists" / f"{file}.txt") for name, file in LISTS.items()}


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """
    Writes a run of an experiment below `tmp_path / "runs"`, on the paper's split and by its recipe:
    `write_run(name, experiment, report=None, identity={}, fold=0, **changes)` with changes to `results.json`.
    """

    def write(
        name: str,
        experiment: Experiment,
        report: dict[str, Any] | None = None,
        identity: dict[str, Any] | None = None,
        seed: int = 42,
        clips: dict[str, int] | None = None,
        **changes: Any,
    ) -> Path:
        example = json.loads(EXAMPLE.read_text(encoding="utf-8"))
        clips = clips or {name: number - 1 for name, number in experiment.clips.items()}
        n = len(experiment.emotions)
        confusion = [[8 if i == j else 2 if j == (i + 1) % n else 0 for j in range(n)] for i in range(n)]
        metrics = {"uar": 0.5, "accuracy": 0.8, "f1_weighted": 0.75, "eer": 0.125, "confusion_matrix": confusion}
        metrics["clips"] = sum(map(sum, confusion))
        split = {**experiment.split, **changes.pop("split", {})}
        results = {
            **example,
            "base_model": experiment.model,
            "method": experiment.method,
            "head": experiment.head,
            "emotions": list(experiment.emotions),
            "merged_emotions": {},
            "corpora": {name: {**example["corpora"]["ravdess"], "clips": number} for name, number in clips.items()},
            "split": split,
            "metrics": {"test": {**metrics, **changes.pop("test", {})}},
            "seeds": {"training": seed, "split": 42},
            **changes,
        }
        run = {**by_recipe(experiment.recipe, experiment.method), **experiment.settings, **(identity or {})}
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        files = {"results.json": results, "run.json": run}
        if report is not None:
            uar = {"overall": {"uar": results["metrics"]["test"]["uar"]}}
            model = {"precision": "float32"}
            tested = {"part": "test", "number": sum(map(sum, confusion))}
            files["report.json"] = {"model": model, "clips": tested, "quality": uar, **report}
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write
