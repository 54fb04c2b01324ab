"""Numbers and lists in sentences."""

import numpy as np
import pytest

from hf_ser.wording import listed, per_cent


def test_lists() -> None:
    assert [listed(range(n)) for n in range(4)] == ["", "0", "0 and 1", "0, 1 and 2"]
    assert listed("abc", "or") == "a, b or c"
    assert listed("abcdefghi", most=2) == "a, b and 7 more"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.1875, "18.8"),
        (0.18749999999999997, "18.8"),
        (0.6225, "62.3"),
        (-0.0004, "0.0"),
        (-0.0325, "-3.3"),
        (1.0, "100.0"),
        (np.float64(0.1234), "12.3"),
    ],
)
def test_equal_shares_are_printed_alike(share: float, text: str) -> None:
    assert f"{per_cent(share):.1f}" == text
