"""The published tables: complete, as they are printed, and in agreement with each other."""

from collections import Counter

import pytest
from published import EMOBOX_TEST_ACTORS, TABLES, number

from hf_ser.emotions import EMOTIONS

#: The clips of each emotion in HuBERT-SER's test part; every cell of its confusion matrices is a share of them.
TESTED = (365, 39, 398, 399, 377, 318, 393, 143)


def test_all_tables_are_there() -> None:
    assert list(TABLES) == [
        *(f"hubert_ser/{n}" for n in range(1, 7)),
        *(f"peft_ser/{n}" for n in ("II", "III", "IV", "V", "VI", "figure_4", "figure_5", "figure_6")),
        "emobox/ravdess",
    ]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_rectangular_rows(name: str) -> None:
    table = TABLES[name]
    assert all([table.source, table.title, table.notes, table.rows])
    assert 0 < table.labels < len(table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len({tuple(row[: table.labels]) for row in table.rows}) == len(table.rows)
    if name != "hubert_ser/1":
        values = {bool(cell) for row in table.rows for cell in row[table.labels :]}
        assert values == {"figure" not in name}


def test_numbers_as_they_are_printed() -> None:
    cells = ("17,958,528 (each)", "64.21 ± 7.92", "0.40 M", "8.21M", "3,7924")
    assert list(map(number, cells)) == [17958528, 64.21, 0.4, 8.21, 37924]


def test_table_2_has_the_clips_of_the_corpora() -> None:
    sums: Counter[str] = Counter()
    for _, source, count in TABLES["hubert_ser/2"].rows:
        sums[str(source)] += int(number(count))
    assert sums == {"CREMA-D": 7442, "RAVDESS": 1440, "SAVEE": 480, "TESS": 2800}


@pytest.mark.parametrize("k", range(3))
def test_a_confusion_matrix_is_of_2432_clips_and_has_the_accuracy_of_table_3(k: int) -> None:
    table = TABLES[f"hubert_ser/{4 + k}"]
    assert [row[0] for row in table.rows] == table.columns[1:] == [emotion[:3] for emotion in EMOTIONS]
    correct = 0
    for i, (row, clips) in enumerate(zip(table.rows, TESTED, strict=True)):
        shares = list(map(number, row[1:]))
        counts = [round(share / 100 * clips) for share in shares]
        assert [round(100 * count / clips, 2) for count in counts] == pytest.approx(shares, abs=0.0101)
        assert sum(counts) == clips
        correct += counts[i]
    assert 100 * correct / 2432 == pytest.approx(number(TABLES["hubert_ser/3"].rows[k][3]), abs=0.01)


def test_table_iii_adds_up_but_for_its_notes() -> None:
    rows = [list(map(number, row[1:])) for row in TABLES["peft_ser/III"].rows]
    assert all(sum(row[:4]) == row[4] for row in rows[:4])
    sums = [sum(column) for column in zip(*rows[:4], strict=True)]
    assert [own - total for own, total in zip(sums, rows[4], strict=True)] == [0, 0, 0, 5626 - 5716, 0]


def test_emobox_tests_every_actor_once() -> None:
    assert sorted(actor for fold in EMOBOX_TEST_ACTORS for actor in fold) == list(range(1, 25))
    assert [len(fold) for fold in EMOBOX_TEST_ACTORS] == [4] * 6
