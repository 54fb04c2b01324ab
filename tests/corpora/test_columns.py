"""Columns of text say what lists of Python strings would say."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.corpora.columns import Words

columns = st.lists(st.one_of(st.none(), st.sampled_from(["", "s1", "s2", "ü"])), max_size=30)


@pytest.mark.parametrize("kind", [list, pa.array])
@given(column=columns)
def test_words_are_the_column_that_they_were_made_of(kind: type, column: list[str | None]) -> None:
    words = Words.of(kind(column) if column else column)
    assert list(words) == column
    assert [words[i] for i in range(-len(column), len(column))] == column + column
    assert list(words[1:3]) == column[1:3]
    assert words.counts() == {word: column.count(word) for word in sorted({w for w in column if w is not None})}
    assert words.unknown == column.count(None)
    assert len(words) == len(column)


@given(column=columns.filter(bool), data=st.data())
def test_what_is_taken_counts_only_what_is_there(column: list[str | None], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(column) - 1)))
    taken = Words.of(column).take(indices)
    chosen = [column[i] for i in indices]
    assert list(taken) == chosen
    assert set(taken.counts()) == set(chosen) - {None}


def test_a_hundred_thousand_clips_of_two_speakers_cost_4_bytes_each() -> None:
    words = Words.of(f"s{i % 2}" for i in range(100_000))
    assert words.codes.nbytes == 400_000
    assert words.words == ("s0", "s1")
