import pytest

from hf_ser.papers import parameters_beside_table_iv

ROWS = parameters_beside_table_iv()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_peft_sers_table_iv_comes_out(row: tuple[str, str, int, str]) -> None:
    """After rounding; LoRA's with one of the feed-forward's two matrices, and twice that with both, as the text has it."""
    _, method, parameters, printed = row
    paper = float(printed.removesuffix(" M"))
    factor = 2 if method == "lora_ff" else 1
    digits = 1 if paper in (0.3, 0.4) and method == "head" else 2
    assert round(parameters / factor / 1e6, digits) == paper


def test_all_encoders_and_methods_are_there() -> None:
    assert len(ROWS) == 5 * 6
