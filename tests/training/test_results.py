import pytest

from hf_ser.training.results import command, history


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["finetune.py", "--hub_token", "hf_abc", "--seed", "1"], "scripts/finetune.py --hub_token '***' --seed 1"),
        (["/home/me/hf_ser/scripts/finetune.py", "--hub_token=hf_abc"], "scripts/finetune.py '--hub_token=***'"),
        (["finetune.py", "--corpora", "ravdess=/my data/RAVDESS"], "scripts/finetune.py --corpora ravdess=RAVDESS"),
        (["finetune.py", "--hub-token", "hf_abc"], "scripts/finetune.py --hub-token '***'"),
        (
            ["finetune.py", "--corpora", "manifest=../../clients/list.csv"],
            "scripts/finetune.py --corpora manifest=list.csv",
        ),
        (["finetune.py", "--output_dir=/runs/a/", "--model", "a/b"], "scripts/finetune.py --output_dir=a --model a/b"),
    ],
)
def test_a_command_tells_no_token_and_no_path(argv: list[str], expected: str) -> None:
    assert command(argv) == f"accelerate launch --num_processes 1 {expected}"


def test_the_history_has_one_entry_an_epoch() -> None:
    log = [
        {"epoch": 1.0, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "step": 3},
        {"epoch": 1.0, "eval_loss": 1.9, "eval_uar": 0.2, "eval_confusion_matrix": [[1]], "step": 3},
        {"epoch": 2.0, "loss": 1.5, "learning_rate": 0.05, "step": 6},
        {"train_runtime": 3.0, "epoch": 2.0},
    ]
    assert history(log) == [
        {"epoch": 1.0, "loss": 2.0, "learning_rate": 0.1, "eval_loss": 1.9, "eval_uar": 0.2},
        {"epoch": 2.0, "loss": 1.5, "learning_rate": 0.05},
    ]
