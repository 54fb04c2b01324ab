"""A report with every part, whose figures can be told apart, and what is left of it where little is known."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

EMOTIONS = ["angry", "happy", "neutral", "sad"]


def figures(seed: int, clips: int = 80) -> dict[str, Any]:
    """Figures that fit each other, of clips drawn at random."""
    rng = np.random.default_rng(seed)
    each = clips // len(EMOTIONS)
    matrix = [rng.multinomial(each, 0.1 + 0.6 * np.eye(len(EMOTIONS))[k]).tolist() for k in range(len(EMOTIONS))]
    recall = {emotion: matrix[k][k] / each for k, emotion in enumerate(EMOTIONS)}
    uar = float(np.mean(list(recall.values())))
    return {
        "clips": each * len(EMOTIONS),
        "accuracy": uar,
        "f1_weighted": uar - 0.0111,
        "f1_macro": uar - 0.0222,
        "uar": uar,
        "eer": 0.1234 + seed / 1000,
        "eer_by_emotion": {emotion: 0.2 + k / 100 + seed / 1000 for k, emotion in enumerate(EMOTIONS)},
        "log_loss": 1.0987 + seed / 1000,
        "ece": 0.0456 + seed / 1000,
        "recall": recall,
        "confusion_matrix": matrix,
    }


def full() -> dict[str, Any]:
    overall = figures(0, 320)
    spread = {
        metric: [overall[metric] - 0.05, overall[metric] + 0.05]
        for metric in ("uar", "accuracy", "f1_weighted", "f1_macro", "eer", "ece", "log_loss")
    }
    wide = {metric: [low - 0.02, high + 0.02] for metric, (low, high) in spread.items()}
    speakers = {f"{corpus}_{n:02d}": figures(10 * n + k, 16) | {"gender": "female" if n % 2 else "male"}
                for k, corpus in enumerate(("ravdess", "crema_d")) for n in range(1, 11)}  # fmt: skip
    noises = [
        {"kind": kind, "level": level, "unit": "dB SNR", "name": f"{kind}, {level:g} dB SNR", "uar": uar,
         "interval": [uar - 0.05, uar + 0.05], "difference": uar - overall["uar"]}
        for k, kind in enumerate(("white noise", "pink noise", "babble"))
        for level, uar in ((0.0, 0.31 + k / 50), (10.0, 0.47 + k / 50), (20.0, 0.58 + k / 50))
    ]  # fmt: skip
    others = [
        {"kind": kind, "level": level, "unit": unit, "name": name, "uar": uar, "interval": [uar - 0.05, uar + 0.05],
         "difference": uar - overall["uar"]}
        for kind, level, unit, name, uar in (
            ("reverberation", 0.5, "s RT60", "reverberation, 0.5 s RT60", 0.5187),
            ("telephone band", None, "", "telephone band", 0.6011),
            ("MP3", 16.0, "kbit/s", "MP3, 16 kbit/s", 0.6123),
        )
    ]  # fmt: skip
    clean = {"kind": "clean", "level": None, "unit": "", "name": "clean", "uar": overall["uar"],
             "interval": spread["uar"], "difference": 0.0}  # fmt: skip
    return {
        "model": {"name": "hubert-lora", "base_model": "facebook/hubert-base-ls960", "method": "lora_qkv", "emotions": EMOTIONS,
                  "label_map": {"hap": "happy"}, "model_type": "hubert"},
        "made": {"at": "2025-03-04", "command": "scripts/report.py hubert-lora --corpora ravdess=RAVDESS",
                 "packages": {"torch": "2.11.0", "transformers": "5.20.0"}, "device": "CPU (a processor)"},
        "notes": ["Speed was left out: it takes long."],
        "clips": {"part": "test", "split": "speaker", "number": 320, "speakers": 20, "seconds": 1234.5,
                  "corpora": {"ravdess": 150, "crema_d": 170}, "emotions": dict.fromkeys(EMOTIONS, 80),
                  "set_aside": {"silent": 3}, "left_out": {"disgust": 41}},
        "quality": {
            "overall": overall,
            "corpora": {"ravdess": figures(1, 152) | {"intervals": {"uar": [0.41, 0.63]}}, "crema_d": figures(2, 168)},
            "speakers": speakers,
            "genders": {"female": figures(3, 160), "male": figures(4, 160)},
            "intervals": {"level": 0.95, "resamples": 1000, "clips": spread, "speakers": wide},
            "recall_intervals": {emotion: [value - 0.09, min(value + 0.08, 1)] for emotion, value in overall["recall"].items()},
            "eer_by_emotion_intervals": {emotion: [0.15, 0.25 + k / 100] for k, emotion in enumerate(EMOTIONS)},
            "reliability": [{"clips": 0, "confidence": None, "accuracy": None}]
            + [{"clips": 10 * n, "confidence": n / 10 - 0.05, "accuracy": n / 11} for n in range(3, 11)],
        },
        "comparison": {
            "other": "hubert-full", "level": 0.95, "resamples": 1000, "seed": 0,
            "first": {"uar": 0.6631, "eer": 0.1356}, "second": {"uar": 0.6952, "eer": 0.1233},
            "difference": {"uar": 0.0321, "eer": -0.0123},
            "clips": {"uar": {"interval": [0.0101, 0.0543], "p": 0.0413}, "eer": {"interval": [-0.0307, 0.0059], "p": 0.1879}},
            "speakers": {"uar": {"interval": [-0.0077, 0.0712], "p": 0.0873}, "eer": None},
            "mcnemar": {"both": 171, "only_first": 29, "only_second": 47, "neither": 73, "p": 0.0501},
        },
        "fairness": {"demographic_parity": 0.0812, "equality_of_odds": 0.1357,
                     "by_chance": {"draws": 1000, "seed": 0, "demographic_parity": {"median": 0.0512, "p95": 0.0923},
                                   "equality_of_odds": {"median": 0.1234, "p95": 0.1712}},
                     "clips": {"female": 161, "male": 151}, "unknown": 8, "reason": None,
                     "by_emotion": {emotion: {"clips": {"female": 40 + k, "male": 39 - k},
                                              "selection_rate": {"female": 0.2511 + k / 100, "male": 0.2411},
                                              "true_positive_rate": {"female": 0.6622, "male": None},
                                              "difference": {"selection_rate": 0.0109, "true_positive_rate": None}}
                                    for k, emotion in enumerate(EMOTIONS)}},
        "robustness": {"seed": 7, "clips": 320, "conditions": [clean, *noises, *others]},
        "cost": {
            "device": {"kind": "cpu", "name": "CPU (a processor)", "threads": 2, "processors": 4, "load": 0.37, "torch": "2.11.0",
                       "dtype": "float32"},
            "latency": [{"seconds": s, "runs": 20, "median_ms": 21.7 * s, "p95_ms": 26.3 * s} for s in (1, 3, 6, 10)],
            "throughput": {"speech_per_second": 83.4, "clips": 23, "shortest": 1.0, "longest": 10.0, "seconds": 121.7, "passes": 1,
                           "wall_seconds": 1.46, "batch_seconds": 8.0},
            "memory": {"peak_bytes": 1_610_612_736, "before_bytes": 1_288_490_189, "of": "resident memory of the process"},
            "parameters": {"total": 94_573_256, "adapter": 591_880},
            "flops": {"per_second": 13.9e9, "total": 69.5e9, "seconds": 5.0, "counted": "matrix products and convolutions"},
            "size": {"model_bytes": 378_303_548, "adapter_bytes": 2_371_880},
        },
        "leakage": {"speakers": ["ravdess_03"], "reason": None,
                    "duplicates": [{"clip": "ravdess/a", "train_clip": "crema_d/b", "similarity": 0.9871, "exact": False}]},
    }  # fmt: skip


@pytest.fixture(scope="session")
def _full() -> dict[str, Any]:
    return full()


@pytest.fixture
def report(_full: dict[str, Any]) -> dict[str, Any]:
    """A report with every part; the test may change it."""
    return copy.deepcopy(_full)


@pytest.fixture
def reduced(report: dict[str, Any]) -> dict[str, Any]:
    """What is known of a model and clips of which little is known."""
    overall = report["quality"]["overall"] | {
        "eer": None,
        "eer_by_emotion": {"angry": None},
        "recall": {"angry": 0.5, "sad": None},
    }
    return {
        "model": {"name": "tiny", "base_model": None, "method": None, "emotions": EMOTIONS, "label_map": None, "model_type": "wavlm"},
        "made": report["made"],
        "notes": ["No robustness: it was not asked for.", "No cost: it was not asked for."],
        "clips": {"part": "all", "split": None, "number": 320, "speakers": None, "seconds": 3.0, "corpora": {"mine": 320},
                  "emotions": {"angry": 320}, "set_aside": {}, "left_out": {}},
        "quality": {"overall": overall, "corpora": {"mine": overall}, "speakers": {}, "genders": {},
                    "intervals": {"level": 0.95, "resamples": 1000, "clips": {"uar": [0.51, 0.62], "eer": None}, "speakers": None,
                                  "speakers_reason": "the clips' speakers are not known"},
                    "recall_intervals": None, "reliability": []},
        "comparison": None,
        "fairness": {"demographic_parity": None, "equality_of_odds": None, "clips": {}, "by_emotion": {},
                     "reason": "no clip's gender is known"},
        "robustness": None,
        "cost": None,
        "leakage": {"speakers": None, "duplicates": None, "reason": "the clips that it was trained on are not known"},
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_figures() -> Callable[..., dict[str, Any]]:
    return figures
