"""The tables that are computed."""

import re
import shutil
from pathlib import Path

import pytest
from counts import COUNTED
from published import TABLES, number


def test_hubert_ser_1_adds_up() -> None:
    cells, [note] = COUNTED["hubert_ser/1"]({})
    rows = TABLES["hubert_ser/1"].rows
    own = {str(row[0]): number(cells[i, 0]) for i, row in enumerate(rows) if row[3]}
    norms, positions, last_norm, masked, weights = map(number, re.findall(r", ([\d,]*\d)", note))
    assert sum(own[name] for name in own if name.startswith("Conv1d")) + norms == own["HubertFeatureEncoder"]
    layers = 24 * own["HubertEncoderLayerStableLayerNorm"]
    assert layers + positions + last_norm == own["HubertEncoderStableLayerNorm"]
    parts = ("HubertFeatureEncoder", "FeatureProjection", "HubertEncoderStableLayerNorm", "Projector", "Classifier")
    assert sum(own[part] for part in parts) + masked + weights == own["Total Parameters"] == 315_703_201
    same = {row[0] for i, row in enumerate(rows) if row[3] and cells[i, 0] == row[3]}
    assert same == {"Conv1d (Layer 0)", "Conv1d (Layers 1-4)", "Projector", "Classifier"}


def test_hubert_ser_2_is_the_papers_to_the_last_clip(lists: dict[str, str]) -> None:
    cells, notes = COUNTED["hubert_ser/2"](lists)
    assert {place: number(cell) for place, cell in cells.items()} == {
        (i, 0): number(row[2]) for i, row in enumerate(TABLES["hubert_ser/2"].rows)
    }
    assert notes == []


def test_missing_corpora_and_unexpected_clips_are_noted(tmp_path: Path) -> None:
    files = tmp_path / "TESS.txt"
    files.write_text("OAF_back_angry.wav\nOAF_back_ps.wav\n")
    cells, notes = COUNTED["hubert_ser/2"]({"tess": str(files), "savee": str(tmp_path / "no")})
    assert {cells[i, 0] for i, row in enumerate(TABLES["hubert_ser/2"].rows) if row[1] == "TESS"} == {"0", "1"}
    assert notes[0] == "not counted: CREMA-D needs --corpora crema_d=FOLDER"
    assert any("SAVEE: savee: there is no folder" in note for note in notes)
    text = TABLES["hubert_ser/2"].render({"this package": cells}, "not counted", notes)
    assert (
        "| Angry    | TESS    | paper        |   400 |\n|          |         | this package |     1 |\n| Calm" in text
    )
    assert "- not counted: RAVDESS needs --corpora ravdess=FOLDER\n" in text


def test_peft_ser_ii_has_the_papers_parameters_of_whisper() -> None:
    cells, _ = COUNTED["peft_ser/II"]({})
    assert [cells[i, 3] for i in range(3)] == [row[4] for row in TABLES["peft_ser/II"].rows[:3]]
    assert [cells[i, 1] for i in range(5)] == ["4", "6", "12", "12", "12"]


def test_peft_ser_iii_counts_crema_d_by_votes(shared: Path, lists: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(shared / "data" / "crema-d", tmp_path / "crema-d")
    cells, notes = COUNTED["peft_ser/III"]({"crema_d": shutil.copy(lists["crema_d"], tmp_path / "crema-d")})
    assert [cells[1, k] for k in range(5)] == TABLES["peft_ser/III"].rows[1][1:]
    assert len(cells) == 5
    assert len(notes) == 3


def test_peft_ser_iv_is_the_papers_after_rounding() -> None:
    """LoRA's with one of the feed-forward's two matrices; both, as the paper's text has it, are twice as many."""
    cells, _ = COUNTED["peft_ser/IV"]({})
    for i, row in enumerate(TABLES["peft_ser/IV"].rows):
        for k, cell in enumerate(row[1:]):
            printed, own = str(cell).split()[0], cells[i, k]
            one_matrix = own.partition("(")[2] if k == 3 else own
            assert round(number(one_matrix), len(printed.partition(".")[2])) == float(printed)
            if k == 3:
                assert number(own) == pytest.approx(2 * float(printed), abs=0.011)
