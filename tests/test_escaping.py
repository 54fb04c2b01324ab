"""Names of unknown origin: emotions, speakers, corpora and files are text, in whatever they are shown."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from small_files import change
from tiny_models import save_model

from hf_ser.app.page import make_page
from hf_ser.command_line import log_to_terminal, tell
from hf_ser.hub.card import make_card
from hf_ser.inference.plots import plot_timeline
from hf_ser.pipeline import pipeline
from hf_ser.results import RunResults

EVIL = [
    "<script>alert(1)</script>",
    "`<script>``",
    "a|b\\|c",
    "\n# Heading\n\n```\n<script>",
    "\x1b[31mred",
    "$x^{$ \\frac$",
    "{{ 7919 * 7919 }}",
]
RESULTS = Path(__file__).parents[1] / "model_cards/hubert-mini-ravdess-full/results.json"


@pytest.fixture
def model(tiny_hubert: Path, tmp_path: Path) -> Path:
    folder = save_model(tiny_hubert, tmp_path / "<i>model", EVIL)
    change(folder / "config.json", id2label=dict(enumerate(EVIL)))
    return folder


def evil_results() -> RunResults:
    """The results of a run with such names, by their places in the results of the example."""
    results = json.loads(RESULTS.read_text())
    first = next(iter(results["corpora"].values()))
    words = dict(zip(results["emotions"], EVIL, strict=False))
    text = json.dumps(results)
    for word, evil in words.items():
        text = text.replace(f'"{word}"', json.dumps(evil))
    evil_text = " ".join(EVIL)
    return RunResults.from_dict(
        json.loads(text)
        | {"corpora": dict.fromkeys(EVIL, first | {"read_as": "manifest"}), "merged_emotions": {EVIL[1]: EVIL[0]}, "command": evil_text}
        | {"excluded": {EVIL[0]: {EVIL[3]: 3}}, "left_out": {EVIL[0]: 2}, "warnings": EVIL, "base_model": EVIL[0], "base_model_on_hub": False}
    )  # fmt: skip


def outside_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|(?<!`)(`+)(?!`)[^\n]+?(?<!`)\1(?!`)", "", text, flags=re.MULTILINE | re.DOTALL)


def test_a_card() -> None:
    card = str(make_card(evil_results()))
    body = card.split("\n---\n", 1)[1]
    assert "<script>" in body
    assert "<script>" not in outside_code(body)
    assert "\x1b" not in card
    assert "\n# Heading" not in body
    assert "62710561" not in card
    for table in re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}) == 1, table


def test_a_model_its_plots_and_its_page(model: Path) -> None:
    recogniser = pipeline(model)
    wave = np.sin(np.arange(80_000) / 7).astype(np.float32)
    timeline = recogniser.timeline({"array": wave, "sampling_rate": 16_000})
    plot_timeline(wave, timeline).canvas.draw()  # $ would begin a formula
    assert not any(character in "".join(recogniser.emotions) for character in "\x1b\n")
    (model / "results.json").write_text(json.dumps(evil_results().to_dict()))
    parts = make_page(str(model)).get_config_file()["components"]
    texts = [str(part["props"].get("value")) for part in parts if part["type"] == "markdown"]
    assert any("&lt;script>" in text for text in texts)
    assert not any("<script>" in text or "\x1b" in text or "<i>" in text for text in texts)


def test_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_terminal()
    logging.getLogger("hf_ser.names").warning("excluded: %s", "a\x1b]0;title\x07\u202ewav\nb")
    tell(ValueError("no\x1b[31m"))
    shown = capsys.readouterr().err
    assert "excluded: a\\x1b]0;title\\x07\\u202ewav\nb\n" in shown
    assert "error: no\\x1b[31m\n" in shown
