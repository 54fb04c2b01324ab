"""The checkpoints of an unfinished run on the Hub, from which another machine resumes it."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from hf_ser import records
from hf_ser.hub.errors import HubError, explained, files_there
from hf_ser.hub.privacy import without_paths
from hf_ser.records import RUN, SPLITS
from hf_ser.splits.files import SavedSplit, hashed

logger = logging.getLogger(__name__)

#: The start of the names of temporary folders in a run's folder; an interrupted upload or download leaves one behind.
STAGED = ".hub-"


def branch(revision: str | None) -> str:
    """
    The branch for the checkpoints of a run that will be published on `revision`. They contain optimizer states (pickles), so
    they are never on a branch that models are loaded from.
    """
    return f"checkpoints-{revision}" if revision else "checkpoints"


def stage(run: Path) -> Path:
    """
    Copies a run's checkpoints, `run.json` and `splits.json` into a temporary folder for an upload, without paths of this machine
    and with hashes instead of the clips' names. Checkpoints are hard links, because training deletes old ones meanwhile.
    """
    staged = Path(tempfile.mkdtemp(prefix=f"{STAGED}upload-", dir=run))
    for checkpoint in run.glob("checkpoint-*"):
        shutil.copytree(checkpoint, staged / checkpoint.name, copy_function=_link)
    for path in staged.glob("checkpoint-*/*.json"):
        content = without_paths(json.loads(path.read_text(encoding="utf-8")))
        path.unlink()  # only the link
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    records.write(staged / SPLITS, hashed(SavedSplit.read(run / SPLITS).content))
    shutil.copy(run / RUN, staged)
    return staged


def upload(staged: Path, repo_id: str, revision: str | None, token: str | None, message: str) -> None:
    """
    Replaces the content of the branch by a folder that [`stage`] returned, and deletes the folder. A failure is logged: training
    continues, and the next checkpoint is uploaded again.
    """
    api = HfApi(token=token, library_name="hf_ser")
    try:
        with explained(repo_id, branch(revision)):
            api.create_branch(repo_id, branch=branch(revision), exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=staged,
                revision=branch(revision),
                commit_message=message,
                delete_patterns=["checkpoint-*"],
            )
    except Exception as error:
        logger.warning("the checkpoint is not on the Hub: %s", error)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def unfinished_run(repo_id: str, revision: str | None, token: str | None) -> Path | None:
    """
    A folder with `run.json` and `splits.json` of the unfinished run on the branch; `None` if there is none.

    Raises:
        HubError: if the Hub cannot be reached or refuses.
    """
    there = branch(revision)
    with explained(repo_id, there):
        if not HfApi(token=token).file_exists(repo_id, RUN, revision=there):
            return None
        return Path(snapshot_download(repo_id, revision=there, token=token, allow_patterns=[RUN, SPLITS]))


def download(repo_id: str, revision: str | None, run: Path, token: str | None) -> None:
    """
    Downloads a run's checkpoints into its folder, if the Hub has a later one than the folder. It must be the same run, see
    [`unfinished_run`]: files of the folder are replaced.

    Raises:
        HubError: if the Hub cannot be reached or refuses.
    """
    staged = run / f"{STAGED}download"
    api = HfApi(token=token)
    with explained(repo_id, branch(revision)):
        last = max(map(_step, files_there(api, repo_id, branch(revision))), default=-1)
        if last <= max((_step(path.name) for path in run.glob("checkpoint-*")), default=-1):
            return
        patterns = [RUN, SPLITS, "checkpoint-*/*"]
        snapshot_download(repo_id, revision=branch(revision), token=token, local_dir=staged, allow_patterns=patterns)
        if wrong := api.verify_repo_checksums(repo_id, revision=branch(revision), local_dir=staged).mismatches:
            shutil.rmtree(staged)
            raise HubError(
                "{}: {path} has the hash {actual}, expected {expected}, and was deleted. Try again; if that does not help, the "
                "Hub or the network sends another file.".format(repo_id, **wrong[0])
            )
    for name in (RUN, SPLITS):
        (staged / name).replace(run / name)
    for checkpoint in sorted(staged.glob("checkpoint-*"), key=lambda path: _step(path.name)):
        shutil.rmtree(run / checkpoint.name, ignore_errors=True)
        checkpoint.rename(run / checkpoint.name)  # complete or not at all
    shutil.rmtree(staged)
    logger.info("%s: resuming from checkpoint-%d on the Hub", repo_id, last)


def delete(repo_id: str, revision: str | None, token: str | None) -> None:
    """Deletes the branch of a run that is published."""
    try:
        with explained(repo_id, branch(revision)):
            HfApi(token=token).delete_branch(repo_id, branch=branch(revision))
    except Exception as error:
        logger.warning("the branch %r is not deleted from the Hub: %s", branch(revision), error)


def _step(path: str) -> int:
    """The training step of a checkpoint by its path in a run's folder; -1 for other files."""
    name, _, step = path.partition("/")[0].partition("-")
    return int(step) if name == "checkpoint" and step.isdigit() else -1


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy(source, target)
