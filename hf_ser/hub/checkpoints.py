"""The checkpoints of a training that goes on elsewhere if its machine dies, on a branch of their own."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_ser import splits
from hf_ser.hub.errors import again, explain, explained
from hf_ser.hub.privacy import without_paths
from hf_ser.records import RUN, SPLITS

logger = logging.getLogger(__name__)

STATE = "trainer_state.json"
STAGED = ".upload-"


def branch(revision: str | None) -> str:
    """
    The branch for a run that will be published on `revision`. The optimizer's state is on it, and it is deleted when the run
    is published: what others open never has any.
    """
    return f"checkpoints-{revision}" if revision else "checkpoints"


def stage(run: Path) -> Path:
    """
    A folder with the checkpoints of a run, `run.json` and `splits.json` as they go up: hard links, because training deletes
    old checkpoints while an upload goes on; no paths of this machine, and hashes in place of clips' names.
    """
    staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=run))
    for checkpoint in run.glob("checkpoint-*"):
        for path in checkpoint.rglob("*"):
            copy = staged / path.relative_to(run)
            if path.is_dir():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.name in (STATE, "adapter_config.json"):
                content = json.loads(path.read_text(encoding="utf-8"))
                copy.write_text(json.dumps(without_paths(content), indent=2), encoding="utf-8")
            else:
                _link(path, copy)
    split = splits.hashed(splits.SavedSplit.read(run / SPLITS).content)
    (staged / SPLITS).write_text(json.dumps(split, ensure_ascii=False), encoding="utf-8")
    shutil.copy(run / RUN, staged / RUN)
    return staged


def upload(staged: Path, repo_id: str, revision: str | None, token: str | None, message: str) -> None:
    """
    Makes the branch hold what is in `staged`, and deletes `staged`. A failure is told and does not stop the training: the
    next checkpoint comes.
    """
    api = HfApi(token=token, library_name="hf_ser")
    try:
        api.create_branch(repo_id, branch=branch(revision), exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=staged,
            revision=branch(revision),
            commit_message=message,
            delete_patterns=["checkpoint-*"],
        )
    except Exception as error:  # whatever it is, the training is worth more
        logger.warning("the checkpoint is not on the Hub: %s", explain(error, repo_id, branch(revision)))
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def whose(repo_id: str, revision: str | None, token: str | None) -> dict[str, object] | None:
    """
    What the run was told whose checkpoints are on the branch, `None` if there are none.

    Raises:
        HubError: if the Hub cannot be reached or refuses.
    """
    with explained(repo_id, branch(revision)):
        try:
            path = hf_hub_download(repo_id, RUN, revision=branch(revision), token=token)
        except LocalEntryNotFoundError:
            raise  # the Hub cannot be asked
        except (RevisionNotFoundError, RepositoryNotFoundError, EntryNotFoundError):
            return None
    found: dict[str, object] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def download(repo_id: str, revision: str | None, run: Path, token: str | None) -> None:
    """
    Brings the checkpoints of a run back into its folder, if those on the Hub are further on than those in it.

    Raises:
        HubError: if the Hub cannot be reached or refuses.
    """
    with explained(repo_id, branch(revision)):
        try:
            files = HfApi(token=token).list_repo_files(repo_id, revision=branch(revision))
        except (RevisionNotFoundError, RepositoryNotFoundError):
            return
        there = max((_step(Path(name).parts[0]) for name in files if name.endswith(STATE)), default=-1)
        if there <= max((_step(path.name) for path in run.glob("checkpoint-*")), default=-1):
            return
        folder = Path(again(lambda: snapshot_download(repo_id, revision=branch(revision), token=token), repo_id))
    run.mkdir(parents=True, exist_ok=True)
    for name in (SPLITS, RUN):
        shutil.copy(folder / name, run / name)
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: _step(path.name)):
        # Whole or not at all, the last one last: whoever is interrupted goes on from one that is whole.
        partial = Path(tempfile.mkdtemp(prefix=STAGED, dir=run)) / checkpoint.name
        shutil.copytree(checkpoint, partial)
        content = json.loads((partial / STATE).read_text(encoding="utf-8"))
        if content["best_model_checkpoint"]:
            content["best_model_checkpoint"] = str(run / Path(content["best_model_checkpoint"]).name)
        (partial / STATE).write_text(json.dumps(content, indent=2), encoding="utf-8")
        shutil.rmtree(run / checkpoint.name, ignore_errors=True)
        partial.rename(run / checkpoint.name)
        partial.parent.rmdir()
    logger.info("%s: going on from checkpoint-%d of the Hub", repo_id, there)


def delete(repo_id: str, revision: str | None, token: str | None) -> None:
    """Takes the branch away, once the run is published."""
    api = HfApi(token=token, library_name="hf_ser")
    try:
        if any(found.name == branch(revision) for found in api.list_repo_refs(repo_id).branches):
            api.delete_branch(repo_id, branch=branch(revision))
    except Exception as error:  # the run is published, and that is what counts
        logger.warning("the branch %r stays on the Hub: %s", branch(revision), explain(error, repo_id))


def _step(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if name.startswith("checkpoint-") and number.isdigit() else -1


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without links
        shutil.copy(path, copy)
