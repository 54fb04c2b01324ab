"""The measurement of `hf_ser.benchmark.scale` at several sizes: as JSON, as a picture and as a table."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_ser.benchmark import scale, tasks
from hf_ser.benchmark.settings import Settings
from hf_ser.machine import processor_name

SCALE_RESULTS, SCALE_PLOT = "scale.json", "scale.png"
#: What takes so few microseconds for a clip that nobody waits for it is not in the picture.
DRAWN = ("read", "prepare", "open", "select", "split", "cut", "batches")
NOTES = (
    "Each size in a process of its own, after a small pass that does not count. Decoding in one process beside it.",
    f"Clips of {scale.SHORTEST} to {scale.LONGEST} s of noise, {scale.CLIPS_PER_SPEAKER} a speaker, one in {scale.COPIES} a copy "
    f"and one in {scale.BROKEN} empty; segments of {scale.SEGMENT_SECONDS} s.",
    "Microseconds are for a clip; of epoch and batches for a segment; of the first batch for the batch.",
    "Memory is what no file backs, in excess of the process before the corpus was read; held is after a stage, peak at most in "
    "it; the processes that decode are not in it.",
)


def measure_scales(
    sizes: Sequence[int], seed: int = 0, run: Callable[..., dict[str, Any]] = tasks.run_apart
) -> dict[str, Any]:
    """
    Takes made-up corpora of several sizes through all stages, one after the other.

    Args:
        sizes (`Sequence[int]`): Clips in each corpus.
        seed (`int`, defaults to 0): Of the clips and their order.
        run (`Callable`, *optional*): Does a task, see `hf_ser.benchmark.tasks`; by default in a process of its own.

    Returns:
        What `scale.json` holds.

    Raises:
        ValueError: if a corpus would be too small for a split and a batch.
        TaskError: if a measurement fails.
    """
    if small := [size for size in sizes if size < scale.WARM_UP]:
        raise ValueError(f"--scale: needs corpora of {scale.WARM_UP} clips at least, found {small[0]}")
    before = os.getloadavg()[0]
    found = []
    for size in sorted(sizes):
        with TemporaryDirectory(prefix="hf_ser-scale-") as work:
            found.append(run(Settings(Path(work), seed=seed), "scale", corpus=size))
    return {
        "sizes": found,
        "stages": scale.STAGES,
        "machine": {
            "processor": processor_name(),
            "system": platform.system(),
            "python": platform.python_version(),
            "load_before": round(before, 2),
            "load_after": round(os.getloadavg()[0], 2),
        },
        "notes": list(NOTES),
    }


def save_scales(report: dict[str, Any], folder: Path) -> None:
    """Writes `scale.json` and `scale.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCALE_RESULTS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    sizes = [one["clips"] for one in report["sizes"]]
    for stage in DRAWN:
        values = [one["stages"][stage]["microseconds"] for one in report["sizes"]]
        time_axes.plot(sizes, values, marker="o", label=stage)
    time_axes.set(title="time for a clip", ylabel="µs", yscale="log")
    time_axes.legend(fontsize=8, ncols=2)
    for name in ("peak", "held"):
        values = [value for one in report["sizes"] if (value := memory(one)[name]) is not None]
        if len(values) == len(sizes):
            memory_axes.plot(
                sizes, [value / size for value, size in zip(values, sizes, strict=True)], marker="o", label=name
            )
    memory_axes.set(title="memory for a clip", ylabel="bytes")
    memory_axes.legend(fontsize=8)
    for axes in (time_axes, memory_axes):
        axes.set(xlabel="clips in the corpus", xscale="log", ylim=(0 if axes is memory_axes else None, None))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report["machine"]["processor"], fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(folder / SCALE_PLOT, dpi=150)


def memory(one: dict[str, Any]) -> dict[str, float | None]:
    """The most memory that any stage took, and what is held when a training could begin, in bytes."""
    peaks = [stage["peak"] for stage in one["stages"].values()]
    return {"peak": None if None in peaks else max(peaks), "held": one["stages"]["cut"]["held"]}


def scale_table(report: dict[str, Any]) -> str:
    """The measurement as text: microseconds for a clip, and memory, of each stage and size."""
    sizes = report["sizes"]
    width = 12
    lines = [
        f"{report['machine']['processor']}, load {report['machine']['load_before']} before and "
        f"{report['machine']['load_after']} after",
        "",
        f"{'µs for a clip':<16}" + "".join(f"{one['clips']:>{width},}" for one in sizes) + "  clips",
        *(
            f"{stage:<16}"
            + "".join(f"{one['stages'][stage]['microseconds']:>{width},.1f}" for one in sizes)
            + f"  {meaning}"
            for stage, meaning in report["stages"].items()
        ),
        "",
        f"{'seconds':<16}"
        + "".join(f"{sum(s['seconds'] for s in one['stages'].values()):>{width},.1f}" for one in sizes),
    ]
    for name, what in (("peak", "the most that any stage took"), ("held", "when training could begin")):
        values = [value for one in sizes if (value := memory(one)[name]) is not None]
        if len(values) == len(sizes):
            cells = "".join(f"{value / 1e6:>{width},.1f}" for value in values)
            lines.append(f"{f'{name}, MB':<16}{cells}  {what}")
    lines.append(
        f"{'disk, MB':<16}" + "".join(f"{one['disk'] / 1e6:>{width},.1f}" for one in sizes) + "  what is prepared"
    )
    return "\n".join([*lines, "", *(f"- {note}" for note in report["notes"])])
