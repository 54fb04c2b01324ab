"""The plots of a report, which are readable in black and white, and with any colour vision."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.evaluation.plots import confusion_matrix, plain_text, save_figure
from hf_ser.rendering.headline import CLEAN, CONDITION_KEYS, clean_value, form_of, main_key
from hf_ser.wording import per_cent

#: Okabe and Ito's colours, from dark to light. Line and marker distinguish them without colours.
STYLES = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#000000", "-", "x"),
)
#: The factor, the unit and the lowest value of the axis of a metric.
SCALES = {"uar": (100, ", %", 0.0), "ccc": (1, "", -0.2)}
BAR: dict[str, Any] = {"color": "#9DC3E6", "edgecolor": "#1F4E79", "linewidth": 0.8}
LEGEND: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "frameon": False}
SNR = "dB SNR"


def draw(report: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Draws the plots of a report into `folder`, and returns them by name, as [`~hf_ser.rendering.page`] takes them."""
    quality, robust, main = report["quality"], report["robustness"], main_key(report)
    drawn: dict[str, Figure] = {}
    if main == "uar":
        matrix, emotions = quality["overall"]["confusion_matrix"], report["model"]["emotions"]
        drawn |= {
            "confusion_matrix": confusion_matrix(matrix, emotions),
            "recall": recall(quality),
            "reliability": reliability(quality),
        }
    if "dimensions" in quality["overall"]:
        drawn["dimensions"] = dimensions(quality["overall"]["dimensions"])
    if any(metrics.get(main) is not None for metrics in quality["speakers"].values()):
        drawn["speakers"] = speakers(quality, main)
    if robust:
        drawn["robustness"] = robustness(robust, main)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: folder / f"{name}.png" for name in drawn}
    for name, figure in drawn.items():
        save_figure(figure, pictures[name])
    return pictures


def recall(quality: Mapping[str, Any]) -> Figure:
    """Draws the recall of each emotion with its interval, and their mean, the UAR, from the report's `quality`."""
    overall, intervals = quality["overall"], quality["recall_intervals"] or {}
    recalls = {emotion: value for emotion, value in overall["recall"].items() if value is not None}
    figure = Figure(figsize=(7, 0.8 + 0.45 * max(len(recalls), 3)), layout="constrained")
    axes = figure.add_subplot()
    _bars(axes, [(name, value, intervals.get(name)) for name, value in recalls.items()])
    axes.axvline(100 * overall["uar"], color="black", linestyle="--", label=f"UAR {per_cent(overall['uar']):.1f} %")
    chance = 100 / len(overall["recall"])  # over all emotions of the model, with or without clips
    axes.axvline(chance, color="grey", linestyle=":", label=f"chance {chance:.1f} %")
    axes.set_xlabel("recall, % (95 % intervals)" if any(intervals.values()) else "recall, %")
    axes.legend(**LEGEND)
    return figure


def _bars(axes: Axes, rows: Sequence[tuple[str, float, Sequence[float] | None]], metric: str = "uar") -> None:
    """Horizontal bars of a metric with their intervals, if there are any: name, value, interval."""
    factor, _, lowest = SCALES[metric]
    values = [factor * value for _, value, _ in rows]
    axes.barh(range(len(rows)), values, height=0.65, **BAR)
    for i, (_, _, interval) in enumerate(rows):
        if interval:
            # A bootstrap interval need not contain the value.
            error = [[max(values[i] - factor * interval[0], 0)], [max(factor * interval[1] - values[i], 0)]]
            axes.errorbar(values[i], i, xerr=error, fmt="none", ecolor="black", capsize=3, elinewidth=1.0)
    axes.set_yticks(range(len(rows)), [plain_text(name) for name, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(factor * lowest, factor)
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def dimensions(found: Mapping[str, Any]) -> Figure:
    """Draws the clips by true and predicted value of each dimension, one panel each, from the report's `dimensions`."""
    figure = Figure(figsize=(3.6 * len(found) + 0.6, 3.9), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, of) in zip(panels, found.items(), strict=True):
        counts = np.array(of["histogram"], dtype=float).T  # (predicted, true)
        image = axes.imshow(
            np.where(counts > 0, counts, np.nan), cmap="Blues", vmin=0, origin="lower", extent=(0, 1, 0, 1)
        )
        axes.plot([0, 1], [0, 1], color="black", linestyle=":")
        ccc = "undefined" if of["ccc"] is None else f"{of['ccc']:.3f}"
        axes.set_title(f"{name}: CCC {ccc}", fontsize=11)
        axes.set(xlabel="label", ylabel="prediction")
        axes.grid(alpha=0.3)
        figure.colorbar(image, ax=axes, label="clips", shrink=0.7).locator = MaxNLocator(4, integer=True)
    return figure


def reliability(quality: Mapping[str, Any]) -> Figure:
    """Draws the accuracy against the probability of the predicted emotion, and the clips of each bin, from `quality`."""
    bins = [entry for entry in quality["reliability"] if entry["clips"]]
    confidence, accuracy = ([100 * entry[key] for entry in bins] for key in ("confidence", "accuracy"))
    figure = Figure(figsize=(5, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    colour, line, marker = STYLES[0]
    top.plot([0, 100], [0, 100], color="grey", linestyle=":", label="calibrated")
    top.plot(confidence, accuracy, color=colour, linestyle=line, marker=marker, label="the model")
    top.vlines(confidence, confidence, accuracy, color=colour, alpha=0.35, linewidth=4)
    top.set(ylabel="accuracy, %", xlim=(0, 100), ylim=(0, 100))
    top.set_title(f"expected calibration error {per_cent(quality['overall']['ece']):.1f} %", fontsize=11)
    top.legend(loc="upper left")
    centres = [50 * (entry["high"] + entry["low"]) for entry in bins]
    widths = [90 * (entry["high"] - entry["low"]) for entry in bins]
    bottom.bar(centres, [entry["clips"] for entry in bins], width=widths, **BAR)
    bottom.set(ylabel="clips", xlabel="probability of the predicted emotion, %")
    bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return figure


def speakers(quality: Mapping[str, Any], metric: str) -> Figure:
    """
    Draws the metric of each speaker as a dot, by corpus and gender, and the mean of each group, from the report's `quality`.
    Speakers with an undefined metric are left out.
    """
    factor, unit, lowest = SCALES[metric]
    groups: dict[tuple[str, str], list[float]] = {}
    for metrics in quality["speakers"].values():
        if metrics.get(metric) is not None:
            groups.setdefault((metrics["corpus"], metrics["gender"] or "unknown"), []).append(factor * metrics[metric])
    keys = sorted(groups)
    genders = sorted({gender for _, gender in keys})
    figure = Figure(figsize=(max(5.0, 1.6 + 1.3 * len(keys)), 4.5), layout="constrained")
    axes = figure.add_subplot()
    for place, key in enumerate(keys):
        values = np.sort(groups[key])
        colour, _, marker = STYLES[genders.index(key[1]) % len(STYLES)]
        # Side by side, so that no dot hides another; not random, so that the plot is the same every time.
        beside = 0.28 * (((np.arange(len(values)) * 0.618) % 1) - 0.5) * 2 if len(values) > 1 else np.zeros(1)
        axes.scatter(
            place + beside, values, s=34, color=colour, marker=marker, alpha=0.75, linewidths=0.5,
            edgecolors="none" if marker == "x" else "black",
        )  # fmt: skip
        axes.hlines(values.mean(), place - 0.36, place + 0.36, color="black", linewidth=2,
                    label="_" if place else "mean of the speakers")  # fmt: skip
    if (value := quality["overall"][metric]) is not None:
        axes.axhline(factor * value, color="grey", linestyle="--", label=f"all clips, {form_of(metric)(value).text}")
    labels = [f"{plain_text(corpus)}\n{gender} ({len(groups[corpus, gender])})" for corpus, gender in keys]
    axes.set_xticks(range(len(keys)), labels, rotation=30 if len(keys) > 8 else 0)
    axes.set(
        xlim=(-0.6, len(keys) - 0.4), ylim=(1.05 * min(factor * lowest, *map(min, groups.values())), 1.02 * factor),
        ylabel=f"{metric.upper()} of a speaker{unit}", xlabel="corpus and gender (speakers)",
    )  # fmt: skip
    axes.grid(alpha=0.3, axis="y")
    axes.legend(**LEGEND)
    return figure


def robustness(robust: Mapping[str, Any], metric: str) -> Figure:
    """
    Draws the metric against the signal-to-noise ratio, one line for each noise, and the other conditions as bars, both beside
    the clean clips, from the report's `robustness`.
    """
    value, edges, _ = CONDITION_KEYS[metric]
    measured = [{**entry, "value": entry[value], "edges": entry[edges]}
                for entry in robust["conditions"] if entry[value] is not None]  # fmt: skip
    noises = [entry for entry in measured if entry["unit"] == SNR]
    others = [entry for entry in measured if entry["unit"] != SNR and entry["kind"] != CLEAN]
    # Inches; one panel below the other, for phones.
    heights = [4.0] * bool(noises) + [1.1 + 0.36 * len(others)] * bool(others)
    figure = Figure(figsize=(7, sum(heights) or 1), layout="constrained")
    panels = list(figure.subplots(len(heights) or 1, 1, squeeze=False, height_ratios=heights or None)[:, 0])
    if noises:
        _draw_noises(panels.pop(0), noises, robust, metric)
    if others:
        axes = panels.pop(0)
        _bars(axes, [(entry["name"], entry["value"], entry["edges"]) for entry in others], metric)
        axes.set_xlabel(f"{metric.upper()}{SCALES[metric][1]}")
        _draw_references(axes, axes.axvline, robust, metric)
    return figure


def _draw_noises(axes: Axes, noises: Sequence[Mapping[str, Any]], robust: Mapping[str, Any], metric: str) -> None:
    factor, unit, lowest = SCALES[metric]
    for kind, (colour, line, marker) in zip(dict.fromkeys(entry["kind"] for entry in noises), cycle(STYLES)):
        conditions = sorted(
            (entry for entry in noises if entry["kind"] == kind), key=lambda entry: float(entry["level"])
        )
        levels = [condition["level"] for condition in conditions]
        values = [factor * condition["value"] for condition in conditions]
        axes.plot(levels, values, color=colour, linestyle=line, marker=marker, label=plain_text(kind))
        if all(condition["edges"] for condition in conditions):
            low, high = factor * np.array([condition["edges"] for condition in conditions]).T
            axes.fill_between(levels, low, high, color=colour, alpha=0.15, linewidth=0)
            for edge in (low, high):  # the edges distinguish the bands without colours
                axes.plot(levels, edge, color=colour, linestyle=line, linewidth=0.6)
    axes.set_xticks(sorted({float(entry["level"]) for entry in noises}))
    axes.set(
        ylim=(factor * lowest, factor),
        xlabel="signal-to-noise ratio, dB (more is cleaner)",
        ylabel=f"{metric.upper()}{unit}",
    )
    axes.grid(alpha=0.3)
    _draw_references(axes, axes.axhline, robust, metric)


def _draw_references(axes: Axes, line: Callable[..., Any], robust: Mapping[str, Any], metric: str) -> None:
    """Lines at the metric of the clean clips and at chance, and the legend."""
    for name, value, style in (("clean", clean_value(robust, metric), (0, (6, 3))), ("chance", robust["chance"], ":")):
        if value is not None:
            colour, text = "black" if name == "clean" else "grey", form_of(metric)(value).text
            line(SCALES[metric][0] * value, color=colour, linestyle=style, linewidth=1.2, label=f"{name}, {text}")
    axes.legend(**LEGEND)
