"""The papers' figures: complete, and as they are printed. What the tables say of each other must hold."""

from collections import Counter

import pytest

from hf_ser.emotions import EMOTIONS
from hf_ser.papers.figures import emobox_test_actors, load_figures, number

FIGURES = load_figures()
#: The clips of each emotion in HuBERT-SER's test part; every cell of its confusion matrices is a share of them.
TESTED = (365, 39, 398, 399, 377, 318, 393, 143)


def test_all_tables_are_there() -> None:
    assert list(FIGURES) == [
        *(f"hubert_ser/{n}" for n in range(1, 7)),
        *(f"peft_ser/{n}" for n in ("II", "III", "IV", "V", "VI", "figure_4", "figure_5", "figure_6")),
        "emobox/ravdess",
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_a_table_has_a_source_and_rectangular_rows(name: str) -> None:
    table = FIGURES[name]
    assert table.paper
    assert table.number
    assert table.place
    assert table.title
    assert table.notes
    assert all(isinstance(note, str) for note in table.notes)
    assert 0 < table.labels < len(table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len({row[: table.labels] for row in table.rows}) == len(table.rows)
    if "figure" not in name:
        assert all(isinstance(cell, str) for row in table.rows for cell in row)
        if name != "hubert_ser/1":
            assert all(cell for row in table.rows for cell in row)
    else:
        assert {cell for row in table.rows for cell in row[1:]} == {None}
        assert "no numbers are printed in the paper" in table.notes[0]


def test_numbers_as_they_are_printed() -> None:
    assert number("17,958,528 (each)") == 17958528
    assert number("64.21 ± 7.92") == 64.21
    assert number("0.40 M") == 0.4
    assert number("8.21M") == 8.21
    assert number("3,7924") == 37924


def test_table_2_makes_the_clips_of_the_corpora() -> None:
    sums: Counter[str] = Counter()
    for _, source, count in FIGURES["hubert_ser/2"].rows:
        sums[str(source)] += int(str(count))
    assert sums == {"CREMA-D": 7442, "RAVDESS": 1440, "SAVEE": 480, "TESS": 2800}
    assert sums.total() == 12162


@pytest.mark.parametrize(("name", "row"), [("hubert_ser/4", 0), ("hubert_ser/5", 1), ("hubert_ser/6", 2)])
def test_a_confusion_matrix_is_one_of_2432_clips_and_makes_the_accuracy_of_table_3(name: str, row: int) -> None:
    table = FIGURES[name]
    assert [line[0] for line in table.rows] == list(table.columns[1:]) == [emotion[:3] for emotion in EMOTIONS]
    right = 0
    for i, (line, clips) in enumerate(zip(table.rows, TESTED, strict=True)):
        shares = [float(str(cell)) for cell in line[1:]]
        counts = [round(share / 100 * clips) for share in shares]
        assert [round(100 * count / clips, 2) for count in counts] == pytest.approx(shares, abs=0.0101)
        assert sum(counts) == clips
        right += counts[i]
    assert sum(TESTED) == 2432
    assert 100 * right / 2432 == pytest.approx(float(str(FIGURES["hubert_ser/3"].rows[row][3])), abs=0.01)


def test_table_iii_adds_up_but_for_what_the_notes_say() -> None:
    rows = [[number(str(cell)) for cell in row[1:]] for row in FIGURES["peft_ser/III"].rows]
    assert all(sum(row[:4]) == row[4] for row in rows[:4])
    sums = [sum(column) for column in zip(*rows[:4], strict=True)]
    assert [own - total for own, total in zip(sums, rows[4], strict=True)] == [0, 0, 0, 5626 - 5716, 0]


def test_emobox_folds_test_every_actor_once() -> None:
    folds = emobox_test_actors()
    assert [len(fold) for fold in folds] == [4] * 6
    assert sorted(actor for fold in folds for actor in fold) == list(range(1, 25))
