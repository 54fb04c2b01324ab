"""The report's plots: what is drawn, and that little is enough to draw it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from hf_ser.rendering.tables import CAPTIONS
from hf_ser.report import plots


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Figure], list[Axes]]:
    """Saves a figure, and returns its axes."""

    def save(figure: Figure) -> list[Axes]:
        plots.save_figure(figure, tmp_path / "picture.png")
        assert imread(tmp_path / "picture.png").std() > 0.01
        return figure.axes

    return save


def words(axes: Axes) -> str:
    legend = axes.get_legend()
    texts = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), *(legend.get_texts() if legend else [])]
    return "\n".join(text.get_text() for text in texts)


def test_every_plot_that_the_report_has_values_for(
    drawn: dict[str, Path], reduced: dict[str, Any], tmp_path: Path
) -> None:
    assert set(drawn) == set(CAPTIONS) - {"dimensions"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
    assert set(plots.draw(reduced, tmp_path)) == {"confusion_matrix", "recall", "reliability"}


def test_recall_with_intervals_the_mean_and_chance(saved: Any, report: dict[str, Any]) -> None:
    quality = report["quality"]
    (axes,) = saved(plots.recall(quality))
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(
        [100 * v for v in quality["overall"]["recall"].values()]
    )
    assert "chance 12.5 %" in words(axes)
    assert "UAR 58.8 %" in words(axes)
    edges = axes.collections[0].get_segments()[0][:, 0]
    assert list(edges) == pytest.approx([100 * edge for edge in quality["recall_intervals"]["angry"]])
    assert axes.get_xlabel() == "recall, % (95 % intervals)"
    quality["recall_intervals"] = {"angry": [0.99, 1.0], "sad": None}  # an interval may lie beside its value
    quality["overall"]["recall"] = {"angry": 0.5, "$\\frac$": 0.5}  # a name is no formula
    saved(plots.recall(quality))


def test_reliability_leaves_empty_bins_out(saved: Any, report: dict[str, Any]) -> None:
    top, bottom = saved(plots.reliability(report["quality"]))
    diagonal, line = top.lines
    bins = [entry for entry in report["quality"]["reliability"] if entry["clips"]]
    assert len(bins) < len(report["quality"]["reliability"])
    assert list(line.get_ydata()) == pytest.approx([100 * entry["accuracy"] for entry in bins])
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert [bar.get_height() for bar in bottom.patches] == [entry["clips"] for entry in bins]


def test_a_dot_for_each_speaker_by_corpus_and_gender(saved: Any, report: dict[str, Any]) -> None:
    (axes,) = saved(plots.speakers(report["quality"], "uar"))
    assert "ravdess\nfemale (2)" in words(axes)
    dots = [len(group.get_offsets()) for group in axes.collections if len(group.get_offsets()) == 2]
    assert dots == [2, 2]


def test_robustness_has_a_line_for_each_noise_and_bars_for_the_rest(saved: Any, report: dict[str, Any]) -> None:
    robust = report["robustness"]
    noises, others = saved(plots.robustness(robust, "uar"))
    lines = {line.get_label(): line for line in noises.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"white noise", "pink noise", "babble", "clean, 58.8 %", "chance, 12.5 %"}
    assert list(lines["babble"].get_xdata()) == [0, 5, 10, 20, 30]
    babble = [entry["uar"] for entry in robust["conditions"] if entry["kind"] == "babble"]
    assert list(lines["babble"].get_ydata()) == pytest.approx([100 * uar for uar in babble[::-1]])
    # Black and white is enough to tell them apart.
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines.values()}) == 5
    assert "reverberation, 0.3 s RT60" in words(others)
    assert "clean\n" not in words(others)
    robust["conditions"] = [entry for entry in robust["conditions"] if entry["kind"] == "MP3"]
    robust["conditions"][0] |= {"uar": None, "interval": None, "difference": None}
    (axes,) = saved(plots.robustness(robust, "uar"))
    assert len(axes.patches) == 2
