"""What classifiers predict, and for which sounds."""

from typing import Any

import numpy as np

WAVE = np.sin(np.arange(12_000) / 7).astype(np.float32)


def answers(classifier: Any) -> dict[str, float]:
    """The probabilities that a pipeline gives for `WAVE`, by emotion."""
    return {answer["label"]: answer["score"] for answer in classifier({"array": WAVE, "sampling_rate": 16_000})}


def make_sound(seconds: float, frequency: float = 200.0) -> np.ndarray:
    """A tone that is never at zero: its changes of sign can be counted."""
    time = (np.arange(round(16_000 * seconds)) + 0.37) / 16_000
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
