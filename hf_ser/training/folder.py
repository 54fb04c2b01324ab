"""The folder of a run: what is in it, the checkpoint to resume from, and when an earlier run in it may be deleted."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from hf_ser import records
from hf_ser.claims import LOCK, sole_use
from hf_ser.hub import checkpoints
from hf_ser.records import RESULTS, RUN, SPLITS
from hf_ser.rendering.tables import CAPTIONS
from hf_ser.training.config import SERConfig

#: What `SERTrainer.save_model` writes.
SAVED = (*records.MODEL, "adapter")
#: How a folder's name begins while a model is written into it.
UNSAVED = ".unsaved-"
#: The files that a run writes into its folder and may delete from it, in this order: first those that make it look finished, or
#: a checkpoint complete; last those that make it a run.
ENTRIES = (RESULTS, f"checkpoint-[0-9]*/{TRAINER_STATE_NAME}", "checkpoint-[0-9]*", *SAVED, records.EXCLUDED, records.CARD,
           *records.PLOTS, "runs/*/events.out.tfevents.*", records.REPORT, records.REPORT_PAGE,
           f"{records.REPORT_FOLDER}/{records.REPORT_CLIPS}", records.PREDICTIONS,
           *(f"{records.REPORT_FOLDER}/{name}.png" for name in CAPTIONS), SPLITS, RUN)  # fmt: skip
#: Files that a killed upload, download or writing of a model or record leaves.
INTERRUPTED = (f"{checkpoints.STAGED}*", f"{UNSAVED}*", *(f".{name}.*" for name in (RUN, SPLITS, RESULTS)))
#: Files of an earlier run that would be mistaken for those of this run.
MISTAKEN = (RESULTS, *SAVED, "checkpoint-[0-9]*")


@contextmanager
def alone_in_folder(training: SERConfig) -> Iterator[None]:
    """[`~hf_ser.claims.sole_use`] of `output_dir` for the processes of this run: the main one locks it for all of them."""
    with ExitStack() as stack:
        with training.main_process_first(desc="locking the folder"):
            if training.process_index == 0:
                stack.enter_context(sole_use(training.folder))
        yield


def last_checkpoint(folder: Path) -> str | None:
    """
    The last complete checkpoint of a run. Its state is written last and deleted first: a full disk or a killed process leaves
    others without, or with a part of it.
    """
    states = folder.glob(f"checkpoint-[0-9]*/{TRAINER_STATE_NAME}")
    for state in sorted(states, key=lambda path: int(path.parent.name[11:]), reverse=True):
        with suppress(ValueError):
            records.read(state)
            return str(state.parent)
    return None


def checkpoint_to_resume(resume: str | Path | bool | None, folder: Path, nor: str = "") -> Path | None:
    """
    The checkpoint that a run in `folder` resumes from: `resume` itself, with `True` the last one in `folder`, or none.

    Raises:
        FileNotFoundError: if it does not exist; the message ends with `nor`, the other places where it was looked for.
    """
    if not resume:
        return None
    found = last_checkpoint(folder) if resume is True else resume
    if found is None or not Path(found).is_dir():
        raise FileNotFoundError(f"resume_from_checkpoint: there is no checkpoint in {str(found or folder)!r}{nor}")
    return Path(found)


def require_free(training: SERConfig) -> None:
    """
    Makes sure that a new run may write into its folder.

    Raises:
        FileExistsError: if it holds an earlier run or other files, and `overwrite_output_dir` is not set or the files are no run.
    """
    folder = training.folder
    last, finished = last_checkpoint(folder), (folder / RESULTS).exists()
    left = {path for pattern in (*INTERRUPTED, LOCK) for path in folder.glob(pattern)}
    if folder.is_dir() and set(folder.iterdir()) - left:
        if not training.overwrite_output_dir:
            kind = "a finished run" if finished else f"an unfinished run ({last})" if last else "other files"
            go_on = " resume_from_checkpoint True to go on with it," if last and not finished else ""
            raise FileExistsError(
                f"output_dir: {str(folder)!r} holds {kind}. Choose another folder,{go_on} or overwrite_output_dir True to "
                "delete it and start anew."
            )
        if not (finished or last or (folder / RUN).exists()):
            raise FileExistsError(f"overwrite_output_dir: {str(folder)!r} holds no run; it is left alone.")


def holds_run(training: SERConfig) -> bool:
    """Whether the folder holds files that would be taken for those of a new run, or a run that is to be overwritten."""
    given_up = training.overwrite_output_dir and (training.folder / RUN).exists()
    return given_up or any(path for pattern in MISTAKEN for path in training.folder.glob(pattern))


def delete_entries(folder: Path, patterns: Sequence[str]) -> None:
    """Deletes what a run has left in `folder`."""
    for entry in [path for pattern in patterns for path in folder.glob(pattern)]:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
