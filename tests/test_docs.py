"""The code in the documentation runs as it is printed, on small corpora and models."""

import re
from pathlib import Path
from typing import Any

import pytest
from small_files import write_clip

from hf_ser.corpora import synthetic

REPOSITORY = Path(__file__).parents[1]


def python_in(path: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / path).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_quick_start_runs(hub: Any, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "default_folder", lambda: speech)
    names: dict[str, Any] = {}
    for block in python_in("docs/quickstart.md"):
        exec(compile(block.replace("user/quickstart", "lab/quickstart"), "quickstart.md", "exec"), names)
    assert names["parts"]["train"].features["label"].names == ["angry", "sad"]
    assert 0 <= names["metrics"]["eval_uar"] <= 1
    assert Path("runs/quickstart/README.md").read_text(encoding="utf-8")


def test_training_and_use_as_the_readme_has_them(
    hub: Any, tiny_hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for actor in range(1, 9):
        for emotion in (3, 4, 5):
            write_clip(tmp_path / "RAVDESS" / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-01-{actor:02}.wav")
            code = {3: "HAP", 4: "SAD", 5: "ANG"}[emotion]
            write_clip(tmp_path / "CREMA-D" / "AudioWAV" / f"10{actor:02}_DFA_{code}_XX.wav")
    recording = write_clip(tmp_path / "interview.wav")
    use, train = python_in("README.md")
    given = {
        '"/data/RAVDESS"': repr(str(tmp_path / "RAVDESS")),
        '"/data/CREMA-D"': repr(str(tmp_path / "CREMA-D")),
        '"microsoft/wavlm-base-plus"': repr(str(tiny_hubert)),
        "user/wavlm-emotion": "lab/emotion",
        "user/my-model": "lab/emotion",
        "interview.wav": str(recording),
    }
    for printed, here in given.items():
        use, train = use.replace(printed, here), train.replace(printed, here)
    exec(compile(train, "README.md", "exec"), {})
    exec(compile(use, "README.md", "exec"), {})
    card = (tmp_path / "runs" / "wavlm" / "README.md").read_text(encoding="utf-8")
    assert "audio-classification" in card
