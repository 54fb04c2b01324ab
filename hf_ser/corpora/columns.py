"""Columns of text without a Python object for each clip, for corpora of 100,000 clips that repeat a few words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset
from datasets.formatting import query_table

#: The number of clips that are Python objects at a time.
BLOCK = 1000


class Words(Sequence[str | None]):
    """
    A column that repeats few words, such as speakers: for each clip a number, which costs 4 bytes.

    Args:
        codes (`np.ndarray` of shape `(clips,)`): For each clip the number of its word, -1 where it has none.
        words (`Sequence[str]`): The words, each once.
    """

    def __init__(self, codes: npt.NDArray[np.signedinteger[Any]], words: Sequence[str]) -> None:
        self.codes = codes
        self.words = tuple(words)

    @classmethod
    def of(cls, column: Iterable[str | None]) -> "Words":
        """The same column as numbers and words, numbered in the order of their first occurrence."""
        array = column if isinstance(column, pa.Array) else pa.array(column, pa.string())
        encoded = array.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        return cls(codes, encoded.dictionary.to_pylist())

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> "Words": ...
    def __getitem__(self, index: int | slice) -> "str | Words | None":
        if isinstance(index, slice):
            return Words(self.codes[index], self.words)
        code = int(self.codes[index])
        return None if code < 0 else self.words[code]

    def __iter__(self) -> Iterator[str | None]:
        words = (*self.words, None)  # -1 is the last
        for first in range(0, len(self), BLOCK):
            yield from (words[code] for code in self.codes[first : first + BLOCK].tolist())

    def take(self, indices: npt.ArrayLike) -> "Words":
        """The column of the clips at `indices`."""
        return Words(self.codes[np.asarray(indices, dtype=np.int64)], self.words)

    def places(self, order: Sequence[str]) -> npt.NDArray[np.int64]:
        """For each clip the index of its word in `order`, -1 if it has none of these."""
        place = {word: k for k, word in enumerate(order)}
        # The last item is for clips without a word, because their code is -1.
        return np.array([*(place.get(word, -1) for word in self.words), -1], dtype=np.int64)[self.codes]

    def counts(self) -> dict[str, int]:
        """The number of clips with each word, without words that no clip has, sorted."""
        known = np.bincount(self.codes[self.codes >= 0], minlength=len(self.words))
        return dict(sorted((word, int(n)) for word, n in zip(self.words, known, strict=True) if n))

    @property
    def unknown(self) -> int:
        """The number of clips without a word."""
        return int((self.codes < 0).sum())


def arrow_column(rows: Dataset, name: str) -> pa.Array:
    """A column of a data set as an Arrow array, without reading the other columns."""
    # Not by select_columns and with_format, each of which copies all of `rows.info`.
    table = query_table(rows.data.select([name]), slice(0, len(rows)), rows._indices)
    return table[name].combine_chunks()
