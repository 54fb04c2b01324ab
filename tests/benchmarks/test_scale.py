"""The measurement of scale on as few clips as it takes. No speed is tested."""

import sys
from pathlib import Path

import pytest
import scale


def test_every_stage_is_measured(tmp_path: Path) -> None:
    stages = scale.measure(tmp_path, 400)
    assert len(stages) == 10
    for found in stages.values():
        assert found["µs"] > 0
        assert not found["peak"] < found["held"]


def test_a_corpus_that_is_too_small_for_a_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scale.py", "1000", "10"])
    with pytest.raises(SystemExit):
        scale.main()
    assert "clips: expected at least 400, found 10" in capsys.readouterr().err
