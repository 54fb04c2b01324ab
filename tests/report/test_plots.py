"""The report's pictures: what is drawn, and that little is enough to draw it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from hf_ser.report import plots

ALL = {"confusion_matrix", "recall", "reliability", "speakers", "robustness", "latency"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Axes]]:
    """Draws, and returns the axes of the figure that was saved."""
    figures: list[Figure] = []
    save = plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))

    def draw(function: Callable[..., None], *arguments: Any) -> list[Axes]:
        function(*arguments, tmp_path / "picture.png")
        assert imread(tmp_path / "picture.png").std() > 0.01
        return figures[-1].axes

    return draw


def words(axes: Axes) -> str:
    legend = axes.get_legend()
    texts = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), *(legend.get_texts() if legend else [])]
    return "\n".join(text.get_text() for text in texts)


def test_all_pictures_of_a_report(report: dict[str, Any], tmp_path: Path) -> None:
    pictures = plots.draw(report, tmp_path / "new" / "pictures")
    assert set(pictures) == ALL
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_of_a_reduced_report_what_can_be_drawn(reduced: dict[str, Any], tmp_path: Path) -> None:
    assert set(plots.draw(reduced, tmp_path)) == {"confusion_matrix", "recall"}
    assert plots.draw({"quality": None, "cost": None}, tmp_path) == {}


def test_recall_with_intervals_the_mean_and_chance(drawn: Any, report: dict[str, Any]) -> None:
    (axes,) = drawn(plots.recall, report["quality"])
    recalls = report["quality"]["overall"]["recall"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * value for value in recalls.values()])
    assert "chance 25.0 %" in words(axes)
    assert f"UAR {100 * report['quality']['overall']['uar']:.1f} %" in words(axes)
    low, high = axes.collections[0].get_segments()[0][:, 0]
    assert [low, high] == pytest.approx([100 * edge for edge in report["quality"]["recall_intervals"]["angry"]])
    assert axes.get_xlabel() == "recall, % (95 % intervals)"


def test_an_interval_may_lie_beside_its_figure(drawn: Any, report: dict[str, Any]) -> None:
    report["quality"]["recall_intervals"] = {"angry": [0.99, 1.0], "sad": None}
    drawn(plots.recall, report["quality"])


def test_reliability_leaves_empty_bins_out(drawn: Any, report: dict[str, Any]) -> None:
    top, bottom = drawn(plots.reliability, report["quality"])
    diagonal, line = top.lines
    bins = [entry for entry in report["quality"]["reliability"] if entry["clips"]]
    assert list(line.get_xdata()) == pytest.approx([100 * entry["confidence"] for entry in bins])
    assert list(line.get_ydata()) == pytest.approx([100 * entry["accuracy"] for entry in bins])
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert [bar.get_height() for bar in bottom.patches] == [entry["clips"] for entry in bins]


def test_reliability_knows_the_bins_edges_where_they_are_told(drawn: Any) -> None:
    bins = [{"low": 0.4, "high": 0.6, "clips": 9, "confidence": 0.55, "accuracy": 0.5}]
    _, bottom = drawn(plots.reliability, {"overall": {}, "reliability": bins})
    (bar,) = bottom.patches
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(50)


def test_a_dot_for_each_speaker_by_corpus_and_gender(drawn: Any, report: dict[str, Any]) -> None:
    (axes,) = drawn(plots.speakers, report["quality"])
    assert "ravdess\nfemale (5)" in words(axes)
    dots = [len(group.get_offsets()) for group in axes.collections if len(group.get_offsets()) == 5]
    assert dots == [5, 5, 5, 5]


def test_the_group_of_a_speaker() -> None:
    quality = {"corpora": {"msp": {}, "msp_improv": {}}}
    assert plots.group_of_speaker("msp_improv_01", {}, quality) == ("msp_improv", "unknown")
    assert plots.group_of_speaker("01", {"gender": "male", "corpus": "x"}, quality) == ("x", "male")
    assert plots.group_of_speaker("01", {}, {}) == ("unknown corpus", "unknown")


def test_robustness_has_a_line_for_each_noise_and_bars_for_the_rest(drawn: Any, report: dict[str, Any]) -> None:
    noises, others = drawn(plots.robustness, {**report["robustness"], "chance": 0.25})
    lines = {line.get_label(): line for line in noises.lines if not str(line.get_label()).startswith("_")}
    clean = f"clean, {100 * report['quality']['overall']['uar']:.1f} %"
    assert set(lines) == {"white noise", "pink noise", "babble", clean, "chance, 25.0 %"}
    assert list(lines["babble"].get_xdata()) == [0, 10, 20]
    assert list(lines["babble"].get_ydata()) == pytest.approx([35, 51, 62])
    # Black and white is enough to tell them apart.
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines.values()}) == 5
    assert [bar.get_width() for bar in others.patches] == pytest.approx([51.87, 60.11, 61.23])
    assert "reverberation, 0.5 s RT60" in words(others)
    assert "clean\n" not in words(others)


def test_robustness_without_intervals_without_clean_and_of_one_kind(drawn: Any) -> None:
    entry = {
        "kind": "MP3",
        "level": 16.0,
        "unit": "kbit/s",
        "name": "MP3",
        "uar": 0.5,
        "interval": None,
        "difference": -0.1,
    }
    (axes,) = drawn(plots.robustness, {"conditions": [entry]})
    assert "clean, 60.0 %" in words(axes)
    noise = {**entry, "kind": "babble", "unit": "dB SNR", "difference": None}
    (axes,) = drawn(plots.robustness, {"conditions": [noise]})
    assert "clean" not in words(axes)


def test_latency_against_length(drawn: Any, report: dict[str, Any]) -> None:
    (axes,) = drawn(plots.latency, report["cost"])
    median, p95 = axes.lines
    assert list(median.get_xdata()) == [1, 3, 6, 10]
    assert list(median.get_ydata()) == pytest.approx([21.7, 65.1, 130.2, 217])
    assert (np.asarray(p95.get_ydata()) > np.asarray(median.get_ydata())).all()
    assert axes.get_title() == "CPU (a processor)"


def test_names_are_no_formulas(drawn: Any, report: dict[str, Any]) -> None:
    report["quality"]["overall"]["recall"] = {"$\\frac$": 0.5}
    drawn(plots.recall, report["quality"])
    report["cost"]["device"]["name"] = "$\\undefined$"
    drawn(plots.latency, report["cost"])
