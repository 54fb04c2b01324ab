"""What is computed beside the papers' tables."""

import shutil
from pathlib import Path

import pytest

from hf_ser.papers import COMPUTED, load_figures, render
from hf_ser.papers.figures import number

FIGURES = load_figures()
LISTS = {"ravdess": "RAVDESS", "crema_d": "CREMA-D", "tess": "TESS", "savee": "SAVEE"}


@pytest.fixture
def lists(shared: Path) -> list[str]:
    return [f"{name}={shared / 'data' / 'file-lists' / file}.txt" for name, file in LISTS.items()]


def test_hubert_ser_1_adds_up() -> None:
    ours = COMPUTED["hubert_ser/1"]([])
    table = FIGURES["hubert_ser/1"]
    mine = {str(row[0]): number(ours.lines["ours"][i, 0]) for i, row in enumerate(table.rows) if row[3]}
    more = {label: number(value) for label, value in ours.more_rows}
    front = [mine[name] for name in mine if name.startswith("Conv1d")]
    assert sum(front) + more["in the feature encoder: layer norms"] == mine["HubertFeatureEncoder"]
    encoder = 24 * mine["HubertEncoderLayerStableLayerNorm"]
    encoder += more["in the encoder: positional convolution"] + more["in the encoder: layer norm"]
    assert encoder == mine["HubertEncoderStableLayerNorm"]
    parts = ("HubertFeatureEncoder", "FeatureProjection", "HubertEncoderStableLayerNorm", "Projector", "Classifier")
    others = more["embedding of masked frames"] + more["weights of the layers"]
    assert sum(mine[part] for part in parts) + others == mine["Total Parameters"] == 315_703_201
    same = {row[0] for i, row in enumerate(table.rows) if row[3] and ours.lines["ours"][i, 0] == row[3]}
    assert same == {"Conv1d (Layer 0)", "Conv1d (Layers 1-4)", "Projector", "Classifier"}


def test_hubert_ser_2_is_the_papers_to_the_last_clip(lists: list[str]) -> None:
    ours = COMPUTED["hubert_ser/2"](lists)
    paper = {(i, 0): number(str(row[2])) for i, row in enumerate(FIGURES["hubert_ser/2"].rows)}
    assert {place: number(cell) for place, cell in ours.lines["ours"].items()} == paper
    assert ours.more_rows == [("all that are given", "12,162")]
    assert ours.missing == ours.notes == []


def test_hubert_ser_2_says_what_is_missing(lists: list[str]) -> None:
    ours = COMPUTED["hubert_ser/2"](lists[:1])
    assert len(ours.lines["ours"]) == 8
    assert ours.missing == [f"{name} needs --corpora {key}=FOLDER" for name, key in
                            (("CREMA-D", "crema_d"), ("SAVEE", "savee"), ("TESS", "tess"))]  # fmt: skip
    text = render(FIGURES["hubert_ser/2"], ours)
    assert "| Angry              | CREMA-D |         1271 | not counted |" in text
    assert "- not counted: TESS needs --corpora tess=FOLDER" in text


def test_a_clip_that_the_paper_has_not_is_told(tmp_path: Path) -> None:
    listed = tmp_path / "TESS.txt"
    listed.write_text("OAF_back_angry.wav\nOAF_back_calm.wav\n")
    ours = COMPUTED["hubert_ser/2"]([f"tess={listed}", f"savee={tmp_path / 'no'}"])
    assert ours.lines["ours"][3, 0] == "1"
    assert any("SAVEE: savee: there is no folder" in missing for missing in ours.missing)


def test_peft_ser_ii_has_the_papers_parameters_of_whisper() -> None:
    ours, table = COMPUTED["peft_ser/II"]([]), FIGURES["peft_ser/II"]
    for name in ("Whisper Tiny", "Whisper Base", "Whisper Small"):
        assert ours.lines["ours"][table.row(name), 3] == table.rows[table.row(name)][4]
    assert [ours.lines["ours"][i, 1] for i in range(5)] == ["4", "6", "12", "12", "12"]


def test_peft_ser_iii_counts_crema_d_by_votes(shared: Path, lists: list[str], tmp_path: Path) -> None:
    shutil.copytree(shared / "data" / "crema-d", tmp_path / "crema-d")
    copied = shutil.copy(lists[1].partition("=")[2], tmp_path / "crema-d")
    ours = COMPUTED["peft_ser/III"]([f"crema_d={copied}"])
    row = FIGURES["peft_ser/III"].rows[1]
    assert [ours.lines["ours"][1, k] for k in range(5)] == list(row[1:])
    assert len(ours.lines["ours"]) == 5
    assert len(ours.missing) == 3


def test_peft_ser_iv_is_the_papers_after_rounding_but_for_lora() -> None:
    ours, table = COMPUTED["peft_ser/IV"]([]), FIGURES["peft_ser/IV"]
    for i, row in enumerate(table.rows):
        for k, cell in enumerate(row[1:]):
            printed = str(cell).split()[0]
            mine = ours.lines["ours"][i, k]
            own = mine.partition("(")[2] if k == 3 else mine  # that of one matrix in each layer
            assert round(number(own), len(printed.partition(".")[2])) == float(printed)
            if k == 3:
                assert number(mine) == pytest.approx(2 * float(printed), abs=0.011)
