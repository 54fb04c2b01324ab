"""Pictures of a report: each can be read in black and white, and with any colour vision."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.evaluation.plots import confusion_matrix, plain_text, save_figure
from hf_ser.wording import per_cent

#: Okabe and Ito's colours, from dark to light; with each a line and a marker, which say the same without it.
STYLES = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#000000", "-", "x"),
)
BAR: dict[str, Any] = {"color": "#9DC3E6", "edgecolor": "#1F4E79", "linewidth": 0.8}
ERROR: dict[str, Any] = {"ecolor": "black", "capsize": 3, "elinewidth": 1.0}
SNR = "dB SNR"
CLEAN = "clean"
UNKNOWN = "unknown"


def draw(report: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """
    Draws all that a report has the figures for.

    Args:
        report (`dict`): The report; parts may be missing.
        folder (`Path`): Where the pictures go; made if it is not there.

    Returns:
        The pictures by name, as [`~hf_ser.report.page.page`] takes them.
    """
    quality, robust, cost = (report.get(part) or {} for part in ("quality", "robustness", "cost"))
    overall = quality.get("overall") or {}
    emotions = (report.get("model") or {}).get("emotions") or list(overall.get("recall") or {})
    drawn: dict[str, Callable[[Path], None] | None] = {
        "confusion_matrix": overall.get("confusion_matrix")
        and (lambda path: confusion_matrix(overall["confusion_matrix"], emotions, path)),
        "recall": overall.get("recall") and (lambda path: recall(quality, path)),
        "reliability": quality.get("reliability") and (lambda path: reliability(quality, path)),
        "speakers": quality.get("speakers") and (lambda path: speakers(quality, path)),
        "robustness": robust.get("conditions") and (lambda path: robustness(robust, path)),
        "latency": cost.get("latency") and (lambda path: latency(cost, path)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, function in drawn.items():
        if function:
            pictures[name] = folder / f"{name}.png"
            function(pictures[name])
    return pictures


def recall(quality: Mapping[str, Any], path: Path) -> None:
    """Draws the recall of each emotion with its interval, and their mean, the UAR, from the report's `quality`."""
    recalls = {emotion: value for emotion, value in quality["overall"]["recall"].items() if value is not None}
    intervals = quality.get("recall_intervals") or {}
    names = list(recalls)
    values = 100 * np.array([recalls[name] for name in names])
    figure = Figure(figsize=(7, 0.8 + 0.45 * max(len(names), 3)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(names)), values, height=0.65, **BAR)
    for i, name in enumerate(names):
        if interval := intervals.get(name):
            low, high = 100 * np.array(interval)
            # An interval of a bootstrap need not have the figure in it.
            error = [[max(values[i] - low, 0)], [max(high - values[i], 0)]]
            axes.errorbar(values[i], i, xerr=error, fmt="none", **ERROR)
    uar = quality["overall"].get("uar")
    if uar is not None:
        axes.axvline(100 * uar, color="black", linestyle="--", label=f"UAR {per_cent(uar):.1f} %")
    if names:
        chance = 100 / len(
            quality["overall"]["recall"]
        )  # of all emotions that it may say, whether there are clips or not
        axes.axvline(chance, color="grey", linestyle=":", label=f"chance {chance:.1f} %")
    axes.set_yticks(range(len(names)), list(map(plain_text, names)))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("recall, %" + (f" ({_level(quality)} intervals)" if any(intervals.values()) else ""))
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    save_figure(figure, path)


def reliability(quality: Mapping[str, Any], path: Path) -> None:
    """Draws how often the model is right against how sure it is, and how many clips are that sure, from `quality`."""
    bins = [entry for entry in quality["reliability"] if entry["clips"]]
    confidence = np.array([100 * entry["confidence"] for entry in bins])
    accuracy = [100 * entry["accuracy"] for entry in bins]
    clips = [entry["clips"] for entry in bins]
    figure = Figure(figsize=(5, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    colour, line, marker = STYLES[0]
    top.plot([0, 100], [0, 100], color="grey", linestyle=":", label="as right as sure")
    top.plot(confidence, accuracy, color=colour, linestyle=line, marker=marker, label="the model")
    top.vlines(confidence, confidence, accuracy, color=colour, alpha=0.35, linewidth=4)
    top.set_ylabel("right, % of the clips")
    top.set_xlim(0, 100)
    top.set_ylim(0, 100)
    ece = quality["overall"].get("ece")
    top.set_title(
        f"expected calibration error {per_cent(ece):.1f} %" if ece is not None else "reliability", fontsize=11
    )
    top.legend(loc="upper left")
    widths = [100 * (entry["high"] - entry["low"]) if "high" in entry else 100 / 15 for entry in bins]
    centres = [
        50 * (entry["high"] + entry["low"]) if "high" in entry else x for entry, x in zip(bins, confidence, strict=True)
    ]
    bottom.bar(centres, clips, width=np.multiply(widths, 0.9), **BAR)
    bottom.set_ylabel("clips")
    bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bottom.set_xlabel("probability of what is recognised, %")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, path)


def speakers(quality: Mapping[str, Any], path: Path) -> None:
    """
    Draws the UAR of each speaker as a dot, by corpus and gender, and the mean of each group, from the report's `quality`.

    The figures of a speaker may have `gender` and `corpus` beside them. Without a corpus it is the one with whose name the
    speaker's begins; without a gender it is unknown.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for name, figures in quality["speakers"].items():
        if figures.get("uar") is not None:
            corpus, gender = group_of_speaker(name, figures, quality)
            groups.setdefault((corpus, gender), []).append(100 * figures["uar"])
    keys = sorted(groups)
    genders = sorted({gender for _, gender in keys})
    figure = Figure(figsize=(max(5.0, 1.6 + 1.3 * len(keys)), 4.5), layout="constrained")
    axes = figure.add_subplot()
    for place, key in enumerate(keys):
        values = np.sort(groups[key])
        colour, _, marker = STYLES[genders.index(key[1]) % len(STYLES)]
        # Beside each other, so that none hides another: the same picture every time.
        beside = 0.28 * (((np.arange(len(values)) * 0.618) % 1) - 0.5) * 2 if len(values) > 1 else np.zeros(1)
        axes.scatter(
            place + beside, values, s=34, color=colour, marker=marker, alpha=0.75, linewidths=0.5,
            edgecolors="none" if marker == "x" else "black",
        )  # fmt: skip
        axes.hlines(values.mean(), place - 0.36, place + 0.36, color="black", linewidth=2,
                    label="_" if place else "mean of the speakers")  # fmt: skip
    uar = quality["overall"].get("uar")
    if uar is not None:
        axes.axhline(100 * uar, color="grey", linestyle="--", label=f"all clips, {per_cent(uar):.1f} %")
    known = genders != [UNKNOWN]
    labels = [
        f"{plain_text(corpus)}\n{plain_text(gender) if known else ''} ({len(groups[corpus, gender])})"
        for corpus, gender in keys
    ]
    axes.set_xticks(range(len(keys)), labels, rotation=30 if len(keys) > 8 else 0)
    axes.set_xlim(-0.6, len(keys) - 0.4)
    axes.set_ylim(0, 102)
    axes.set_ylabel("UAR of a speaker, %")
    axes.set_xlabel("corpus and gender (speakers)" if known else "corpus (speakers)")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    save_figure(figure, path)


def group_of_speaker(name: str, figures: Mapping[str, Any], quality: Mapping[str, Any]) -> tuple[str, str]:
    """A speaker's corpus and gender, as far as they are known."""
    begins = [corpus for corpus in quality.get("corpora") or {} if name.startswith(f"{corpus}_")]
    corpus = figures.get("corpus") or max(begins, key=len, default="unknown corpus")
    return str(corpus), str(figures.get("gender") or UNKNOWN)


def robustness(robust: Mapping[str, Any], path: Path) -> None:
    """
    Draws the UAR against the signal-to-noise ratio, one line for each noise, and the other conditions as bars, both beside
    the clean clips, from the report's `robustness`.
    """
    conditions = [condition for condition in robust["conditions"] if condition["uar"] is not None]
    noises: dict[str, list[dict[str, Any]]] = {}
    others = []
    for condition in conditions:
        if condition.get("unit") == SNR and condition.get("level") is not None:
            noises.setdefault(condition["kind"], []).append(condition)
        elif condition["kind"] != CLEAN:
            others.append(condition)
    clean = clean_uar(robust)
    heights = [4.0] * bool(noises) + [1.1 + 0.36 * len(others)] * bool(
        others
    )  # inches; one below the other, for phones
    figure = Figure(figsize=(7, sum(heights) or 1), layout="constrained")
    panels = list(figure.subplots(len(heights) or 1, 1, squeeze=False, height_ratios=heights or None)[:, 0])
    if noises:
        _draw_noises(panels.pop(0), noises, clean, robust.get("chance"))
    if others:
        _draw_conditions(panels.pop(0), others, clean, robust.get("chance"))
    save_figure(figure, path)


def clean_uar(robust: Mapping[str, Any]) -> float | None:
    """The UAR of the clean clips: its own condition's, or what the differences are taken from."""
    for condition in robust["conditions"]:
        if condition["kind"] == CLEAN and condition["uar"] is not None:
            return float(condition["uar"])
    for condition in robust["conditions"]:
        if condition.get("difference") is not None:
            return float(condition["uar"] - condition["difference"])
    return None


def _draw_noises(
    axes: Axes, noises: Mapping[str, list[dict[str, Any]]], clean: float | None, chance: float | None
) -> None:
    for (kind, conditions), (colour, line, marker) in zip(noises.items(), cycle(STYLES)):
        conditions = sorted(conditions, key=lambda condition: float(condition["level"]))
        levels = [condition["level"] for condition in conditions]
        values = [100 * condition["uar"] for condition in conditions]
        axes.plot(levels, values, color=colour, linestyle=line, marker=marker, label=plain_text(kind))
        if all(condition.get("interval") for condition in conditions):
            low, high = 100 * np.array([condition["interval"] for condition in conditions]).T
            axes.fill_between(levels, low, high, color=colour, alpha=0.15, linewidth=0)
            for edge in (low, high):  # without colours the bands are told apart by their edges
                axes.plot(levels, edge, color=colour, linestyle=line, linewidth=0.6)
    _draw_beside(axes, clean, chance, vertical=False)
    axes.set_xticks(sorted({float(entry["level"]) for conditions in noises.values() for entry in conditions}))
    axes.set_ylim(0, 100)
    axes.set_xlabel("signal-to-noise ratio, dB (more is cleaner)")
    axes.set_ylabel("UAR, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _draw_conditions(
    axes: Axes, conditions: Sequence[Mapping[str, Any]], clean: float | None, chance: float | None
) -> None:
    values = [100 * condition["uar"] for condition in conditions]
    axes.barh(range(len(conditions)), values, height=0.65, **BAR)
    for i, condition in enumerate(conditions):
        if interval := condition.get("interval"):
            low, high = 100 * np.array(interval)
            error = [[max(values[i] - low, 0)], [max(high - values[i], 0)]]
            axes.errorbar(values[i], i, xerr=error, fmt="none", **ERROR)
    _draw_beside(axes, clean, chance, vertical=True)
    axes.set_yticks(range(len(conditions)), [plain_text(condition["name"]) for condition in conditions])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("UAR, %")
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    if clean is not None or chance is not None:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _draw_beside(axes: Axes, clean: float | None, chance: float | None, vertical: bool) -> None:
    """Lines at the UAR of the clean clips and at that of a model that guesses."""
    line = axes.axvline if vertical else axes.axhline
    if clean is not None:
        line(100 * clean, color="black", linestyle=(0, (6, 3)), linewidth=1.2, label=f"clean, {per_cent(clean):.1f} %")
    if chance is not None:
        line(100 * chance, color="grey", linestyle=":", linewidth=1.2, label=f"chance, {per_cent(chance):.1f} %")


def latency(cost: Mapping[str, Any], path: Path) -> None:
    """Draws the time for one clip against its length, the median and the 95th percentile, from the report's `cost`."""
    entries = sorted(cost["latency"], key=lambda entry: float(entry["seconds"]))
    lengths = [entry["seconds"] for entry in entries]
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, (colour, line, marker) in zip(
        ("median_ms", "p95_ms"), ("median", "95th percentile"), STYLES, strict=False
    ):
        axes.plot(lengths, [entry[key] for entry in entries], color=colour, linestyle=line, marker=marker, label=label)
    axes.set_xticks(lengths)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("length of the clip, s")
    axes.set_ylabel("from waveform to probabilities, ms")
    if name := (cost.get("device") or {}).get("name"):
        axes.set_title(plain_text(name), fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def _level(quality: Mapping[str, Any]) -> str:
    return f"{100 * (quality.get('intervals') or {}).get('level', 0.95):g} %"
