import pytest

from hf_ser.training.results import command


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["finetune.py", "--hub_token", "hf_abc", "--seed", "1"], "finetune.py --hub_token '***' --seed 1"),
        (["finetune.py", "--hub_token=hf_abc"], "finetune.py '--hub_token=***'"),
        (["finetune.py", "--corpora", "ravdess=/my data"], "finetune.py --corpora 'ravdess=/my data'"),
    ],
)
def test_a_token_is_never_written_down(argv: list[str], expected: str) -> None:
    assert command(argv) == expected
