"""The options of a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_ser.audio.distort import CONDITIONS, Condition
from hf_ser.inference.processes import Processes

#: Groups of fewer clips get no interval: all resamples of one clip are the same.
CLIPS_FOR_AN_INTERVAL = 10


@dataclass(frozen=True)
class ReportOptions:
    """
    The options of a report.

    Args:
        robustness (`bool`, defaults to `True`): Whether to measure UAR and CCC under each of `conditions`.
        conditions (`Sequence[Condition]`): By default all of [`~hf_ser.audio.distort.CONDITIONS`].
        robustness_clips (`int`, defaults to 300): The largest number of clips for it, drawn once, with the shares of the
            emotions.
        cost (`bool`, defaults to `True`): Whether to measure latency, throughput, memory and operations.
        leakage (`bool`, defaults to `True`): Whether to compare the clips with those that the model was trained on.
        resamples (`int`, defaults to 1000): The bootstrap resamples of every interval.
        seed (`int`, defaults to 0): The seed of intervals, noise and the draw of clips.
        max_seconds (`float`, *optional*): Longer clips are cut to this many seconds; by default as in the model's training.
        batch_seconds (`float`, *optional*): See [`~hf_ser.pipeline.SERPipeline.predict`].
        keep (`Path`, *optional*): A folder for predictions, from which an interrupted report is resumed.
        progress (`bool`, defaults to `True`): Whether to show progress bars.
        processes (`Processes`, *optional*): Joined processes that all make the report, and share the predictions.

    Raises:
        ValueError: if a number is out of range.
    """

    robustness: bool = True
    conditions: Sequence[Condition] = CONDITIONS
    robustness_clips: int = 300
    cost: bool = True
    leakage: bool = True
    resamples: int = 1000
    seed: int = 0
    max_seconds: float | None = None
    batch_seconds: float | None = None
    keep: Path | None = None
    progress: bool = True
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        for name, least in {"robustness_clips": 1, "resamples": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least {least}")
        for name in ("max_seconds", "batch_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: expected a number of seconds, more than 0")

    @property
    def drawing(self) -> dict[str, Any]:
        """The options of intervals."""
        return {"resamples": self.resamples, "seed": self.seed, "min_clips": CLIPS_FOR_AN_INTERVAL}
