"""A benchmark as JSON, as a picture and as a table."""

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

RESULTS, PLOT = "benchmark.json", "benchmark.png"
COLOURS = {"baseline": "#7F7F7F", "pipeline": "#7F7F7F"}
OWN = "#0072B2"


def save(report: dict[str, Any], folder: Path) -> None:
    """Writes `benchmark.json` and `benchmark.png` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot(report, folder / PLOT)


def groups(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The lines of the comparison that have figures: of each method, and of inference."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in report["training"]:
        found.setdefault(line["method"], []).append(line)
    found["inference"] = report["inference"]
    return found


def plot(report: dict[str, Any], path: Path) -> None:
    """Draws each variant's rate by the baseline's, with the rates beside the bars."""
    drawn = {
        name: [line for line in lines if line.get("ratio")]
        for name, lines in groups(report).items()
        if any(line.get("ratio") for line in lines)
    }
    sizes = [len(lines) for lines in drawn.values()]
    figure = Figure(figsize=(9, 1.2 + 0.36 * sum(sizes) + 0.35 * len(sizes)), layout="constrained")
    all_axes = figure.subplots(max(len(drawn), 1), 1, sharex=True, squeeze=False, height_ratios=sizes or None)[:, 0]
    highest = max((line["ratio"] for lines in drawn.values() for line in lines), default=1.0)
    lowest = min((line["ratio"] for lines in drawn.values() for line in lines), default=1.0)
    for axes, (name, lines) in zip(all_axes, drawn.items(), strict=False):
        ratios = [line["ratio"] for line in lines]
        colours = [COLOURS.get(line["variant"], OWN) for line in lines]
        axes.barh(range(len(lines)), ratios, color=colours, height=0.7)
        axes.set_yticks(range(len(lines)), [line["variant"] for line in lines])
        axes.invert_yaxis()
        axes.set_title("inference" if name == "inference" else f"training, {name}", loc="left", fontsize=10)
        axes.axvline(1, color="black", linewidth=0.8)
        for place, line in enumerate(lines):
            label = f" {line['ratio']:.2f}x  ({line['clips_per_second']:.3g} clips/s)"
            axes.text(line["ratio"], place, label, va="center", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xscale("log")
        axes.set_xlim(0.5 * min(lowest, 1.0), 4 * max(highest, 1.0))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    machine, settings = report["machine"], report["settings"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    figure.suptitle(f"{settings['model']}: clips per second, by the baseline's\n{where}", fontsize=11)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def table(report: dict[str, Any]) -> str:
    """The comparison as text."""
    about, machine, peak = report["clips"], report["machine"], report["peak"]
    epochs = report["settings"]["epochs"]
    rates = ", ".join(f"{name} {found['flops_per_second'] / 1e9:,.0f} GFLOP/s" for name, found in peak.items())
    lines = [
        f"{report['settings']['model']} on {machine['gpu'] or machine['processor']}, {machine['threads']} threads, "
        f"load {machine['load_before']} before and {machine['load_after']} after; best matrix product: {rates}",
        f"{about['clips']} clips ({about['of']}), {about['seconds']:.0f} s; trained on {about['training_clips']}",
        "",
        f"{'training':<26}{'variant':<11}{'ratio':>8}{'clips/s':>10}{'speech s/s':>12}{'peak GB':>9}{'of peak':>9}"
        f"{f'{epochs} epochs':>12}{'ratio':>8}",
    ]
    for line in report["training"]:
        start = f"{line['method']:<26}{line['variant']:<11}"
        if "clips_per_second" not in line:
            lines.append(f"{start}{'-':>8}  {line.get('skipped') or line.get('problem')}")
            continue
        lines.append(
            f"{start}{_ratio(line['ratio']):>8}{line['clips_per_second']:>10.3g}{line['speech_per_second']:>12.3g}"
            f"{line['peak_bytes'] / 1e9:>9.2f}{100 * line['share_of_peak']:>7.1f} %"
            f"{line['whole_run']['seconds']:>10.3g} s{_ratio(line['whole_run']['ratio']):>8}"
        )
    lines += ["", f"{'inference':<26}{'':<11}{'ratio':>8}{'clips/s':>10}{'speech s/s':>12}{'peak GB':>9}"]
    for line in report["inference"]:
        if "clips_per_second" not in line:
            lines.append(f"{line['variant']:<37}{'-':>8}  {line['problem']}")
            continue
        lines.append(
            f"{line['variant']:<37}{_ratio(line['ratio']):>8}{line['clips_per_second']:>10.3g}"
            f"{line['speech_per_second']:>12.3g}{line['peak_bytes'] / 1e9:>9.2f}"
        )
    preparing = report["preparing"]
    lines += [
        "",
        f"preparing {preparing['clips']:.0f} clips: {preparing['first_seconds']:.2f} s the first time, "
        f"{preparing['second_seconds']:.2f} s the second; the baseline decodes {preparing['baseline_clips_per_second']:.0f} "
        "clips/s at every access",
    ]
    for method, found in report["check"].items():
        if "problem" in found:
            lines.append(f"check of {method}: {found['problem']}")
            continue
        verdict = "the same losses" if found["equal"] else "other losses"
        lines.append(
            f"check of {method}: {verdict}, they differ by {found['difference']:.1g} at most (float32, no dropout)"
            + (f": {found['note']}" if found["note"] else "")
        )
    lines += ["", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
