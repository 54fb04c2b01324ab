"""The measurement of scale on as few clips as it takes. No speed is tested."""

import subprocess
from collections.abc import Callable

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_stage_is_measured(python: Run) -> None:
    done = python("benchmarks/scale.py", 450)
    assert done.returncode == 0, done.stderr[-3000:]
    title, columns, *stages = done.stdout.splitlines()
    assert title.strip() == "450 clips"
    assert columns.split() == ["µs", "peak", "held"]
    assert len(stages) == 9
    for stage in stages:
        microseconds, peak, held = map(float, stage.replace(",", "").split()[-3:])
        assert microseconds > 0
        assert peak >= held


def test_a_corpus_that_is_too_small_for_a_batch(python: Run) -> None:
    assert "clips: expected at least 400, found 10" in python("benchmarks/scale.py", 1000, 10).stderr
