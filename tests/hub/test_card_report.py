"""Which report belongs to a run, and that its words fit what the package's own measurements give."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_ser.evaluation.fairness import fairness
from hf_ser.evaluation.figures import figures, grouped
from hf_ser.evaluation.paired import compare
from hf_ser.hub.card import report as card_report
from hf_ser.hub.card.report import read_report, why_another

EMOTIONS = ["angry", "happy", "sad"]
Report = dict[str, Any]


def measured() -> Report:
    """The parts that are figures of answers, as the package takes them."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    first, second = (0.4 * np.eye(3)[labels] + 0.6 * rng.dirichlet([1, 1, 1], 60) for _ in range(2))
    genders = ["female" if i % 2 else "male" for i in range(60)]
    return {
        "clips": {"part": "test", "number": 60},
        "quality": {
            "overall": figures(second, labels, EMOTIONS),
            "genders": grouped(second, labels, EMOTIONS, genders),
        },
        "fairness": fairness(second.argmax(axis=1), labels, genders, EMOTIONS),
        "comparison": {"other": "the other", **compare(first, second, labels, genders, resamples=20)},
    }


def results(report: Report) -> dict[str, Any]:
    return {"metrics": {"test": {"clips": 60, "uar": report["quality"]["overall"]["uar"]}}}


def test_its_words_fit_what_is_measured() -> None:
    report = json.loads(json.dumps(measured()))
    overall, parity = report["quality"]["overall"], report["fairness"]["demographic_parity"]
    for gender in ("female", "male"):
        uar = report["quality"]["genders"][gender]["uar"]
        assert f"| {gender} | 30 | {100 * uar:.1f} % |" in card_report.genders_table(report)
    assert f"Demographic parity: {100 * parity:.1f} %" in card_report.fairness_note(report)
    assert f"(ECE): {100 * overall['ece']:.1f} %" in card_report.calibration_list(report)
    comparison = report["comparison"]
    low, high = comparison["clips"]["uar"]["interval"]
    rows = card_report.comparison_table(report).splitlines()
    assert len(rows) == 2 + len(comparison["difference"])
    assert f"| {100 * overall['uar']:.1f} % | {100 * comparison['first']['uar']:.1f} % |" in rows[2]
    assert rows[2].endswith(f"| {100 * low:+.1f} to {100 * high:+.1f} |")
    assert "Of 60 clips, both have" in card_report.comparison_note(report)


def changed(*keys: str, to: Any) -> Callable[[Report], Any]:
    def change(report: Report) -> Any:
        inside = report
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = to
        return report

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda report: None, "it is no report"),
        (lambda report: [report], "it is no report"),
        (changed("clips", to=None), "it is no report"),
        (changed("model", to={"precision": "int8"}), "its figures are of the model in int8"),
        (changed("clips", "part", to="all"), r"not the test part of the run's own split \(part: all\)"),
        (changed("clips", "part", to="validation"), "not the test part"),
        (changed("clips", "number", to=59), "made on 59 clips, and the run's test part has 60"),
        (changed("quality", "overall", "uar", to=None), "its UAR is not known, and the run's [0-9.]+ %"),
        (changed("quality", "overall", "uar", to=float("nan")), "its UAR is not known"),
        (changed("quality", "overall", "uar", to=0.1234), "its UAR is 12.34 %, and the run's"),
    ],
)
def test_a_report_that_belongs_to_another(
    change: Callable[[Report], Any], why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = results(measured())
    other = change(measured())
    assert re.search(why, why_another(other, run) or "")
    (tmp_path / "report.json").write_text(json.dumps(other))
    assert read_report(tmp_path, run) is None
    assert re.search(f"report.json is left out: .*{why}", caplog.text)


@pytest.mark.parametrize(
    ("difference", "belongs"), [(0.0009, True), (-0.0009, True), (0.0011, False), (-0.0011, False)]
)
def test_another_device_rounds_otherwise(difference: float, belongs: bool) -> None:
    report = measured()
    run = results(report)
    report["quality"]["overall"]["uar"] += difference
    assert (why_another(report, run) is None) == belongs


def test_a_file_that_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.json").write_bytes(b'{"clips": \xff')
    assert read_report(tmp_path, results(measured())) is None
    assert "report.json is left out: it cannot be read" in caplog.text


def test_none_is_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_report(tmp_path, results(measured())) is None
    assert not caplog.records


def test_no_path_of_this_machine(tmp_path: Path) -> None:
    report = measured() | {
        "made": {"command": "python scripts/evaluate.py /home/jdoe/runs/ser --corpora a=/data/b/RAVDESS"}
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    read = read_report(tmp_path, results(report))
    assert read is not None
    assert "by `python scripts/evaluate.py ser --corpora a=RAVDESS`." in card_report.opening(read)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0321, "+3.2"), (-0.0321, "-3.2"), (0.0, "0.0"), (-0.0001, "0.0"), (None, ""), (float("nan"), "")],
)
def test_points(value: float | None, words: str) -> None:
    assert card_report.points(value) == words


def test_names_that_are_no_plain_words() -> None:
    report = {"clips": {"number": 1}, "made": {"command": "python a.py 'b\n`c`'"}}
    assert card_report.opening(report).endswith("It was made by `` python a.py 'b `c`' ``.")
