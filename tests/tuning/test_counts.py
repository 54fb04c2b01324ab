import pytest

from hf_ser.tuning.counts import table_iv

ROWS = table_iv()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['encoder']}-{row['method']}")
def test_peft_sers_table_iv_comes_out(row: dict[str, object]) -> None:
    """After rounding; LoRA's with one of the feed-forward's two matrices, and twice that with both, as the text has it."""
    factor = 2 if row["method"] == "lora_ff" else 1
    digits = 1 if row["paper"] in (0.3, 0.4) and row["method"] == "head" else 2
    assert round(int(str(row["parameters"])) / factor / 1e6, digits) == row["paper"]


def test_all_encoders_and_methods_are_there() -> None:
    assert len(ROWS) == 5 * 6
