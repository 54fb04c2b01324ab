"""Runs that publish themselves, and resume from the Hub."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import predictions
import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RevisionNotFoundError
from small_files import contents
from transformers import pipeline

import hf_ser
from hf_ser.hub import HubError
from hf_ser.hub.checkpoints import branch
from hf_ser.results import RunResults
from hf_ser.training import finetune, parse_arguments
from hf_ser.training.run_record import RunRecord
from hf_ser.wording import per_cent

Train = Callable[..., RunResults]


@pytest.fixture
def train(hub: Any, run_words: Callable[..., list[str]], tmp_path: Path) -> Train:
    """A run that publishes itself as lab/ser; `train(folder, *options)`."""
    push = ("--push_to_hub", "True", "--hub_model_id", "ser")
    return lambda name, *options: finetune(parse_arguments(run_words(tmp_path / name, *push, *options)))


class Killed(Exception):
    """The machine dies."""


@pytest.fixture
def kill(train: Train) -> Callable[..., None]:
    """`kill(epochs, folder, *options)`: a run that dies once it has a checkpoint after so many epochs, if `uploaded` on the Hub."""

    def run(epochs: int, name: str, *options: str, uploaded: bool = True) -> None:
        def die(self: RunRecord, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch >= epochs:
                began = time.monotonic()
                while uploaded and not on_the_hub(f"checkpoint-{state.global_step}/trainer_state.json"):
                    assert time.monotonic() - began < 120, "the checkpoint does not come"
                    time.sleep(0.05)
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunRecord, "on_epoch_begin", die)
            with pytest.raises(Killed):
                train(name, *options)

    return run


@pytest.fixture
def fewer(speech: Path, tmp_path: Path) -> tuple[str, str]:
    """The argument for the small corpus without one of its clips."""
    shutil.copytree(speech, tmp_path / "fewer")
    min((tmp_path / "fewer").rglob("*_sad_*.wav")).unlink()
    return "--corpora", f"synthetic={tmp_path / 'fewer'}"


def on_the_hub(name: str) -> bool:
    """Whether a checkpoint, or part of it, has arrived."""
    try:
        return any(name in file for file in HfApi().list_repo_files("lab/ser", revision="checkpoints"))
    except RevisionNotFoundError:
        return False


def answers(model: str) -> dict[str, float]:
    return predictions.answers(pipeline("audio-classification", model=model))


def test_a_finished_run_is_one_commit(train: Train, tmp_path: Path) -> None:
    train("run", "--method", "lora_qkv", "--hub_private_repo", "True")
    last, *earlier = HfApi().list_repo_commits("lab/ser")
    assert last.title.startswith("lora_qkv: ")
    assert len(earlier) == 1  # the Hub's own, of a new repository
    assert HfApi().model_info("lab/ser").private
    assert [branch.name for branch in HfApi().list_repo_refs("lab/ser").branches] == ["main"]
    assert not [name for name in HfApi().list_repo_files("lab/ser") if name.endswith((".bin", ".pt", ".pth"))]
    assert answers("lab/ser") == pytest.approx(answers(str(tmp_path / "run")), abs=1e-6)
    card = (Path(snapshot_download("lab/ser")) / "README.md").read_text()
    assert "lab/ser" in card


def test_a_probe_is_published_like_any_other_run(train: Train, tmp_path: Path) -> None:
    found = train("run", "--method", "probe")
    assert HfApi().list_repo_commits("lab/ser")[0].title.startswith("probe: ")
    assert answers("lab/ser") == pytest.approx(answers(str(tmp_path / "run")), abs=1e-6)
    there = Path(snapshot_download("lab/ser"))
    assert RunResults.read(there).probe["test"] == found.probe["test"]
    assert f"{per_cent(found.test['uar']):.1f}" in (there / "README.md").read_text(encoding="utf-8")


def test_another_model_there_stops_the_run_before_it_begins(train: Train, tmp_path: Path) -> None:
    HfApi().create_repo("lab/ser")
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="lab/ser")
    with pytest.raises(FileExistsError, match="lab/ser holds 1 file that this push would replace"):
        train("run")
    assert not (tmp_path / "run").exists()
    train("run", "--hub_overwrite", "True", "--method", "lora_classifier")
    assert set(answers("lab/ser")) == {"angry", "happy", "sad"}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (["--hub_token", "hf_wrong"], HubError, "the Hub does not accept your token"),
        (["--hub_license", "banana"], HubError, "banana"),
        (["--corpora", "ravdess=/nowhere/at/all"], ValueError, "there is no folder"),
        (["--resume_from_checkpoint", "True"], FileNotFoundError, "there is no checkpoint in .* Hub, in lab/ser"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing(
    hub: Any, train: Train, tmp_path: Path, options: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        train("run", *options)
    assert not (tmp_path / "run").exists()
    assert hub.repositories == {}


def test_a_push_that_fails_leaves_the_run_and_another_save_format_no_old_weights(
    hub: Any, train: Train, tmp_path: Path
) -> None:
    hub.fail("POST", "/commit/", status=503, times=1000)
    with pytest.raises(HubError, match="The run in .* is unchanged"):
        train("run", "--method", "lora_classifier")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["test"]["clips"]
    assert hf_ser.pipeline(tmp_path / "run")
    train("run", "--method", "lora_classifier", "--push_to_hub", "False", "--resume_from_checkpoint", "True",
          "--save_format", "adapter")  # fmt: skip
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "adapter").exists()
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()


def test_a_killed_run_goes_on_from_the_hub_as_if_it_had_not_stopped(
    train: Train, kill: Callable[..., None], tmp_path: Path
) -> None:
    options = ["--method", "lora_qkv", "--num_train_epochs", "3", "--hub_strategy", "checkpoint", "--hub_always_push", "True",
               "--lora_dropout", "0", "--logging_strategy", "epoch", "--bf16", "False"]  # fmt: skip
    expected = train("whole", *options, "--hub_model_id", "whole")

    kill(2, "here", *options)
    assert set(HfApi().list_repo_files("lab/ser")) == {".gitattributes"}  # the main branch has nothing unfinished
    there = Path(snapshot_download("lab/ser", revision="checkpoints"))
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in there.rglob("*") if path.is_file())
    assert not list((tmp_path / "here").glob(".hub-*"))

    found = train("elsewhere", *options, "--resume_from_checkpoint", "True")
    assert found.training.resumed_from.startswith("checkpoint-")
    for entry, other in zip(found.history, expected.history, strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert entry["eval_loss"] == pytest.approx(other["eval_loss"], rel=1e-4)
    assert found.kept.epoch == expected.kept.epoch
    assert found.test["confusion_matrix"] == expected.test["confusion_matrix"]
    assert [branch.name for branch in HfApi().list_repo_refs("lab/ser").branches] == ["main"]
    assert answers("lab/ser") == pytest.approx(answers("lab/whole"), abs=1e-4)


def test_the_checkpoints_of_another_run_are_neither_taken_nor_deleted(
    train: Train, kill: Callable[..., None], fewer: tuple[str, str]
) -> None:
    options = ["--num_train_epochs", "2", "--hub_strategy", "checkpoint"]
    kill(1, "here", "--method", "lora_classifier", *options)
    with pytest.raises(
        FileExistsError, match="lab/ser, branch 'checkpoints', has the checkpoints of an unfinished run"
    ):
        train("anew", "--method", "lora_classifier", *options)
    with pytest.raises(ValueError, match="method: found 'lora_classifier', given 'full'"):
        train("elsewhere", "--method", "full", "--resume_from_checkpoint", "True", *options)
    with pytest.raises(ValueError, match="lora_r: found 8, given 4"):
        train("smaller", "--method", "lora_classifier", "--lora_r", "4", "--resume_from_checkpoint", "True", *options)
    # Clips that were tested would be trained on; the Hub has hashes of the split.
    resumed = ("--method", "lora_classifier", "--resume_from_checkpoint", "True", *options)
    with pytest.raises(ValueError, match="the clips are not those that the run began with"):
        train("other", *resumed, *fewer)
    train("unrelated", "--method", "lora_classifier", "--num_train_epochs", "1")
    assert on_the_hub("checkpoint-")  # a run that keeps none there deletes none
    assert branch("v2") == "checkpoints-v2"


@pytest.mark.parametrize(("here", "there"), [(1, 2), (2, 1)])
def test_of_two_runs_neither_replaces_the_other(
    train: Train, kill: Callable[..., None], fewer: tuple[str, str], tmp_path: Path, here: int, there: int
) -> None:
    """An unfinished run here and one on the Hub, whichever is further."""
    options = ["--method", "lora_classifier", "--num_train_epochs", "3"]
    smaller = ("--head", "stock")
    strategy = ["--hub_strategy", "checkpoint", "--hub_always_push", "True"]
    without = ("--push_to_hub", "False")
    kill(there, "there", *options, *strategy)
    kill(here, "other", *options, *smaller, *without, uploaded=False)
    kill(here, "clips", *options, *fewer, *without, uploaded=False)
    resumed = [*options, *strategy, "--resume_from_checkpoint", "True"]

    def refused(name: str, message: str, *more: str) -> None:
        kept = contents(tmp_path / name), contents(Path(snapshot_download("lab/ser", revision="checkpoints")))
        with pytest.raises(ValueError, match=message):
            train(name, *resumed, *more)
        assert contents(tmp_path / name) == kept[0]
        assert contents(Path(snapshot_download("lab/ser", revision="checkpoints"))) == kept[1]

    advice = "another hub_model_id or hub_revision, or go on without push_to_hub"
    head = "head: found 'linear', given 'stock'"
    refused("other", rf"^lab/ser, branch 'checkpoints', holds .*\n  {head}\n.*{advice}", *smaller)
    last = str(max((tmp_path / "other").glob("checkpoint-*")))
    refused("other", head, *smaller, "--resume_from_checkpoint", last)
    refused(
        "other", rf"^{tmp_path / 'other'} holds a run with other arguments .*\n  head: found 'stock', given 'linear'"
    )
    refused(
        "clips",
        rf"^lab/ser, .* other clips than the one in '{tmp_path / 'clips'}' \(.* in .* differ\).*{advice}",
        *fewer,
    )
    assert train("clips", *resumed, *fewer, *without).training.resumed_from.startswith("checkpoint-")


def test_a_checkpoint_here_that_is_behind_the_hubs_is_not_gone_on_from(
    train: Train, kill: Callable[..., None], tmp_path: Path
) -> None:
    options = ["--method", "lora_classifier", "--num_train_epochs", "3", "--hub_strategy", "checkpoint"]
    options += ["--hub_always_push", "True"]
    kill(1, "here", *options)
    kill(2, "there", "--resume_from_checkpoint", "True", *options)
    further = max(path.name for path in (tmp_path / "there").glob("checkpoint-*"))
    found = train("here", "--resume_from_checkpoint", "True", *options)
    assert found.training.resumed_from == further


def test_checkpoints_that_cannot_be_uploaded_do_not_stop_the_training(
    hub: Any, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    hub.fail("POST", "/branch/checkpoints", status=500, times=1000)
    train("run", "--method", "lora_classifier", "--hub_strategy", "checkpoint")
    assert "the checkpoint is not on the Hub" in caplog.text
    assert answers("lab/ser")
