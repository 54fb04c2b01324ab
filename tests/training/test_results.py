from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hf_ser.splits import PARTS, Clips, Split
from hf_ser.training.results import command, corpora_table, history, left_out_by_split


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
    assert command(argv, ["accelerate", "launch"]) == f"accelerate launch {expected}"


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


def clips(corpora: list[str], speakers: list[str | None], parts: list[list[int]]) -> Any:
    """Clips of half an hour each, as far as the tables look at them."""
    nothing = [None] * len(corpora)
    table = Clips(
        list(map(str, range(len(corpora)))), ["sad"] * len(corpora), speakers, nothing, corpora, nothing, nothing
    )
    split = Split("file", {}, {part: np.array(rows) for part, rows in zip(PARTS, parts, strict=True)})
    durations = np.full(len(corpora), 1800.0)
    return SimpleNamespace(table=table, split=split, clips={"duration": durations})


def test_corpora_are_counted_as_the_split_uses_them() -> None:
    run = clips(["a", "a", "a", "a", "b"], ["a_1", None, "a_2", "a_3", "b_1"], [[0], [1], [2]])
    assert corpora_table(run, ["manifest=list.csv"]) == {
        "a": {"clips": 3, "speakers": 2, "clips_without_speaker": 1, "hours": 1.5, "read_as": "manifest"}
    }
    assert left_out_by_split(run) == {"a": 1, "b": 1}
    assert left_out_by_split(clips(["a"] * 3, [None] * 3, [[0], [1], [2]])) == {}


def test_it_is_told_which_reader_a_corpus_came_from() -> None:
    names = ["ravdess", "synthetic", "tess", "emodb", "savee"]
    specifications = ["ravdess=R", "dataset=someone/synthetic", "dataset=tess:all", "manifest=list.csv"]
    table = corpora_table(clips(names, [None] * 5, [[0, 1, 2], [3], [4]]), specifications)
    assert {name: entry["read_as"] for name, entry in table.items()} == {
        "ravdess": "ravdess", "synthetic": "dataset", "tess": "dataset", "emodb": "manifest", "savee": "manifest"
    }  # fmt: skip
    assert table["synthetic"]["hub_dataset"] == "someone/synthetic"
    own = corpora_table(clips(["synthetic"] * 3, [None] * 3, [[0], [1], [2]]), ["synthetic"])
    assert own["synthetic"]["read_as"] == "synthetic"
