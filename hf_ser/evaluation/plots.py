"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_ser.records import PLOTS
from hf_ser.results import RunResults
from hf_ser.wording import per_cent


def confusion_matrix(matrix: Sequence[Sequence[int]], emotions: Sequence[str], title: str = "") -> Figure:
    """
    Draws the clips by true (rows) and predicted emotion: in per cent of each row, as in HuBERT-SER's Tables 4 to 6, and
    as counts.
    """
    counts = np.asarray(matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    texts = [
        [f"{per_cent(share):.1f} %\n{count:.0f}" if total else "none" for share, count in zip(*row, strict=True)]
        for *row, (total,) in zip(shares, counts, totals, strict=True)
    ]
    names = [f"{emotion}\n({int(total)})" for emotion, (total,) in zip(emotions, totals, strict=True)]
    size = 1.8 + 0.8 * len(emotions)
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = _draw_shares(figure, shares, texts, names, emotions, "% of the row")
    axes.set(xlabel="recognised as", ylabel="true emotion (clips)", title=title)
    return figure


def heat_map(values: Sequence[Sequence[float | None]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draws UAR, `values` between 0 and 1, by the corpora that trained (rows) and the corpus that was tested."""
    shares = np.array(values, dtype=float)
    texts = [[f"{per_cent(share):.1f}" if np.isfinite(share) else "" for share in row] for row in shares]
    figure = Figure(figsize=(3.2 + 0.9 * len(columns), 1.8 + 0.7 * len(rows)), layout="constrained")
    axes = _draw_shares(figure, shares, texts, rows, columns, "UAR, %")
    axes.set(xlabel="tested on", ylabel="trained on")
    return figure


def _draw_shares(
    figure: Figure, shares: Any, texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], label: str
) -> Axes:
    """A matrix of shares in shades of blue, a text in each cell."""
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    for i, j in np.ndindex(*shares.shape):
        color = "white" if shares[i, j] > 0.55 else "black"
        axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(columns)), list(map(plain_text, columns)), rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), list(map(plain_text, rows)))
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return axes


def training_curves(results: RunResults) -> Figure:
    """
    Draws the losses and the validation metrics over the epochs, beside the probe and the weights that were kept. In training, the
    metrics are of the weights at the end of the epoch; the kept ones may be a mean, and lie between them and the probe.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    curves = {
        "loss": (losses, 1, "train"),
        "eval_loss": (losses, 1, "validation"),
        "eval_uar": (metrics, 100, "UAR"),
        "eval_accuracy": (metrics, 100, "accuracy"),
        "eval_f1_weighted": (metrics, 100, "weighted F1"),
        "eval_eer": (metrics, 100, "EER"),
        "eval_ccc": (metrics, 100, "CCC"),
    }
    for key, (axes, scale, label) in curves.items():
        points = [(entry["epoch"], scale * entry[key]) for entry in results.history if entry.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 60 else None)
    kept = results.kept.epoch
    metric, name = ("uar", "UAR") if results.emotions else ("ccc", "CCC")
    validated, probe = (of.get("validation", {}).get(metric) for of in (results.metrics, results.probe or {}))
    if probe is not None:
        metrics.axhline(100 * probe, color="black", linestyle="--", label=f"{name} of the probe")
    if kept is not None and validated is not None:
        metrics.plot(kept, 100 * validated, "*", color="black", markersize=10, label=f"{name} of the kept weights")
    for axes in (losses, metrics):
        if kept is not None:
            axes.axvline(kept, color="grey", linestyle=":", label=f"kept (epoch {kept:g})")
            axes.xaxis.set_major_locator(MaxNLocator(integer=kept >= 2))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)  # no line is behind it
    losses.set_ylabel("loss")
    metrics.set_ylabel("% on the validation part")
    return figure


def draw_run(results: RunResults, folder: Path) -> None:
    """Draws `training_curves.png` of a run into `folder`, and where the test part has emotions `confusion_matrix.png`."""
    test, (matrix, curves) = results.test, PLOTS
    if "confusion_matrix" in test:
        title = f"test ({results.split['name']} split): UAR {per_cent(test['uar']):.1f} %"
        save_figure(confusion_matrix(test["confusion_matrix"], results.emotions, title), folder / matrix)
    save_figure(training_curves(results), folder / curves)


def sweep(table: Sequence[dict[str, Any]]) -> Figure:
    """
    Draws the UAR of each setting of a sweep, mean and standard deviation over folds and seeds: along the last argument that
    has numbers (PEFT-SER's Figures 4 to 6), one line for each combination of the others; or as bars, where none has.
    """
    keys = list(table[0]["setting"])
    numeric = [key for key in keys if all(_is_number(row["setting"][key]) for row in table)]
    along = numeric[-1] if numeric else None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    if along:
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in table:
            others = ", ".join(Path(row["setting"][key]).name for key in keys if key != along)
            lines.setdefault(others, []).append(row)
        for name, rows in lines.items():
            rows = sorted(rows, key=lambda row: float(row["setting"][along]))
            axes.errorbar(
                [float(row["setting"][along]) for row in rows],
                100 * np.array([row["mean"] for row in rows], dtype=float),
                yerr=[100 * (row["standard_deviation"] or 0) for row in rows],
                marker="o",
                capsize=3,
                label=name or None,
            )
        axes.set_xlabel(along)
        axes.set_xticks(sorted({float(row["setting"][along]) for row in table}))
        if any(lines):
            axes.legend()
    else:
        names = ["\n".join(Path(value).name for value in row["setting"].values()) or "all" for row in table]
        axes.bar(names, 100 * np.array([row["mean"] for row in table], dtype=float),
                 yerr=[100 * (row["standard_deviation"] or 0) for row in table], capsize=3, color="tab:blue")  # fmt: skip
        axes.tick_params(axis="x", rotation=30 if len(names) > 4 else 0)
    axes.set_ylabel(f"{table[0]['metric'].upper()} on test, %")
    axes.grid(alpha=0.3, axis="y")
    axes.set_title(f"mean ± standard deviation over {len(table[0]['runs'])} runs, {table[0]['split']} split")
    return figure


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plain_text(text: str) -> str:
    """Text that matplotlib does not interpret as a formula."""
    return str(text).replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    figure.savefig(path, dpi=120)
