"""The checkpoints of a training that goes on elsewhere if its machine dies, on a branch of their own."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from hf_ser import splits
from hf_ser.hub.errors import again, explain, explained
from hf_ser.hub.privacy import without_paths

logger = logging.getLogger(__name__)

#: The branch. The optimizer's state is on it, and it is deleted when the run is published: the main branch never has any.
BRANCH = "checkpoints"
STATE = "trainer_state.json"


def snapshot_for_upload(run: Path) -> Path:
    """
    A folder with the checkpoints of a run and its `splits.json` as they go up: hard links, because training deletes old
    checkpoints while an upload goes on; no paths of this machine, and hashes in place of clips' names.
    """
    staged = Path(tempfile.mkdtemp(prefix=".upload-", dir=run))
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
    split = json.loads((run / "splits.json").read_text(encoding="utf-8"))
    (staged / "splits.json").write_text(json.dumps(splits.hashed(split)), encoding="utf-8")
    return staged


def upload(staged: Path, repo_id: str, token: str | None, message: str) -> None:
    """
    Makes the branch hold what is in `staged`, and deletes `staged`. A failure is told and does not stop the training: the
    next checkpoint comes.
    """
    api = HfApi(token=token, library_name="hf_ser")
    try:
        api.create_branch(repo_id, branch=BRANCH, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=staged,
            revision=BRANCH,
            commit_message=message,
            delete_patterns=["checkpoint-*"],
        )
    except Exception as error:  # whatever it is, the training is worth more
        logger.warning("the checkpoint is not on the Hub: %s", explain(error, repo_id, BRANCH))
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def download(repo_id: str, run: Path, token: str | None) -> str | None:
    """
    Brings the checkpoints of a run back into its folder.

    Returns:
        The last one's folder, `None` if the Hub has none.

    Raises:
        HubError: if the Hub cannot be reached or refuses.
    """
    with explained(repo_id, BRANCH):
        try:
            folder = Path(again(lambda: snapshot_download(repo_id, revision=BRANCH, token=token), repo_id))
        except (RevisionNotFoundError, RepositoryNotFoundError):
            return None
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    if not checkpoints:
        return None
    run.mkdir(parents=True, exist_ok=True)
    for checkpoint in checkpoints:
        shutil.copytree(checkpoint, run / checkpoint.name, dirs_exist_ok=True)
        state = run / checkpoint.name / STATE
        content = json.loads(state.read_text(encoding="utf-8"))
        if content["best_model_checkpoint"]:
            content["best_model_checkpoint"] = str(run / Path(content["best_model_checkpoint"]).name)
        state.write_text(json.dumps(content, indent=2), encoding="utf-8")
    shutil.copy(folder / "splits.json", run / "splits.json")
    logger.info("%s: going on from %s of the Hub", repo_id, checkpoints[-1].name)
    return str(run / checkpoints[-1].name)


def delete(repo_id: str, token: str | None) -> None:
    """Takes the branch away, once the run is published."""
    api = HfApi(token=token, library_name="hf_ser")
    try:
        if any(branch.name == BRANCH for branch in api.list_repo_refs(repo_id).branches):
            api.delete_branch(repo_id, branch=BRANCH)
    except Exception as error:  # the run is published, and that is what counts
        logger.warning("the branch %r stays on the Hub: %s", BRANCH, explain(error, repo_id, BRANCH))


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without links
        shutil.copy(path, copy)
