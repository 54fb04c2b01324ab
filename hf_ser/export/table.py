"""What the console says of an export."""

from collections.abc import Mapping
from typing import Any


def summary(record: Mapping[str, Any]) -> str:
    """
    What was exported, how far its answers are off, and if it was measured, how fast it is.

    Args:
        record (`Mapping`): What [`export`] returns.
    """
    found = record["comparison"]
    together = " (clips go through it one by one)" if record["precision"] == "int8" else ""
    lines = [
        f"{record['model']} in {record['precision']}, {record['size'] / 1e6:.1f} MB",
        f"compared on {found['clips']} clips, {found['seconds']:.0f} s ({found['of']}): a probability differs by at most "
        f"{found['alone']:.2g} for a clip by itself (allowed: {record['tolerance']:g}), {found['batch']:.2g} in a padded batch"
        f"{together}; {found['equal']:.1%} of the decisions are the same",
    ]
    if record["seconds"]:
        lines += ["", "a clip of 3 s, one thread, median", *_speeds(record["seconds"])]
    return "\n".join(lines)


def _speeds(seconds: Mapping[str, float]) -> list[str]:
    slowest = next(iter(seconds.values()))  # PyTorch, which the others are compared with
    return [f"  {name:<14} {1000 * taken:8.1f} ms  {slowest / taken:5.2f} x" for name, taken in seconds.items()]
