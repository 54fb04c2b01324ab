"""Publishes a finished run on the Hub in one commit: the model, its card, results and splits, and nothing private."""

import copy
import csv
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, ModelCardData, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.sha import git_hash
from safetensors import safe_open
from transformers import AutoConfig

from hf_ser import records
from hf_ser.hub.card import PICTURES, read_report, write_card
from hf_ser.hub.errors import HubError, explained, files_there
from hf_ser.hub.privacy import find_private, without_paths
from hf_ser.modeling.families import encoder_config
from hf_ser.modeling.load import NO_CODE
from hf_ser.records import ADAPTER, ADAPTER_CONFIG, CARD, EXAMPLE, EXCLUDED, MODEL, PLOTS, REPORT, RESULTS, SPLITS
from hf_ser.rendering.blocks import METRICS
from hf_ser.results import RunResults
from hf_ser.splits.files import BY_HASH, NAMED_BY, SavedSplit, hash_name, hashed
from hf_ser.wording import counted

#: The files of a model, with the code of the package's own model class.
MODEL_FILES = (*MODEL, "*_ser.py")
#: The files that a push may write. Those of an earlier push are deleted, because they describe another model.
PUSHED = (*MODEL_FILES, "adapter/*", *PLOTS, *PICTURES.values(), CARD, RESULTS, SPLITS, REPORT, EXCLUDED)
#: The fields of an encoder's configuration that must be the same for an adapter to fit.
SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim", "conv_kernel",
         "conv_stride", "feat_extract_norm", "do_stable_layer_norm", "d_model", "encoder_layers", "encoder_attention_heads",
         "encoder_ffn_dim", "num_mel_bins", "feature_projection_input_dim")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The changes of a push."""

    repo_id: str
    parent: str | None  # the branch's last commit, none if the branch does not exist yet
    changes: dict[str, str]  # for each file `new`, `changed`, `same` or `deleted`
    url: str | None = None  # the address of the commit or pull request, none in a dry run

    @property
    def anything(self) -> bool:
        """Whether a file changes."""
        return any(change != "same" for change in self.changes.values())

    def named(self, *changes: str) -> list[str]:
        """The files with one of these changes."""
        return [name for name, change in self.changes.items() if change in changes]

    def __str__(self) -> str:
        return "\n".join([self.repo_id, *(f"  {change:<8} {name}" for name, change in sorted(self.changes.items()))])


def push(
    run: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    overwrite: bool = False,
    adapter_only: bool = False,
    clip_names: bool = False,
    base_model: str | None = None,
    license: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Plan:
    """
    Publishes a finished run in one commit. After a failure the same call uploads only what is missing.

    Args:
        run (`Path`): The run's folder.
        repo_id (`str`): `user/name`, or `name` in the namespace of the token.
        private (`bool`, *optional*): Whether the repository is private, if it is created.
        revision (`str`, *optional*): The branch, which is created if need be; by default the main one.
        create_pr (`bool`, defaults to `False`): Open a pull request instead of writing to the main branch.
        overwrite (`bool`, defaults to `False`): Replace a model that the branch holds.
        adapter_only (`bool`, defaults to `False`): Publish only the adapter of a merged LoRA run.
        clip_names (`bool`, defaults to `False`):
            Publish the names of clips and speakers, which are otherwise hashed, and the list of excluded clips.
        base_model (`str`, *optional*): The base model's name on the Hub, if the run started from a folder.
        license (`str`, *optional*): The licence's identifier on the Hub, by default the corpus' licence.
        token (`str`, *optional*): A token with write access, by default that of `hf auth login` or `HF_TOKEN`.
        dry_run (`bool`, defaults to `False`): Change nothing, and only return what would change.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        FileExistsError: if the push would replace files, without `overwrite` and `create_pr`.
        ValueError: if the run must not be published: an adapter without a base on the Hub, a path or token in a file.
        HubError: if the Hub refuses or cannot be reached.
    """
    api = HfApi(token=token, library_name="hf_ser")
    with explained(repo_id):
        repo_id = full_name(api, repo_id)
    with tempfile.TemporaryDirectory(prefix="hf_ser-push-") as staged:
        folder = Path(staged)
        files = stage(run, folder, base_model=base_model, adapter_only=adapter_only, clip_names=clip_names)
        results = RunResults.read(folder)
        write_card(results, folder, model_id=repo_id, revision=revision, license=license)
        files[CARD] = folder / CARD
        require_public(files, run, token or get_token())
        if ADAPTER in files:
            require_fitting_base(folder, token)
        additions = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
        with explained(repo_id, revision):
            plan = plan_push(api, repo_id, additions, revision)
            ModelCard.load(files[CARD]).validate()  # before the weights are uploaded, and in a dry run
        if dry_run:
            return plan
        if plan.parent and not (overwrite or create_pr):
            refuse_to_replace(repo_id, plan.named("deleted", "changed"))
        try:
            with explained(repo_id, revision):
                api.create_repo(repo_id, private=private, exist_ok=True)
                if revision and plan.parent is None and not create_pr:
                    api.create_branch(repo_id, branch=revision, exist_ok=True)
                made = api.create_commit(
                    repo_id,
                    [*additions, *map(CommitOperationDelete, plan.named("deleted"))],
                    commit_message=title(results),
                    revision=revision,
                    create_pr=create_pr,
                    # A later commit of somebody else is not overwritten.
                    parent_commit=None if create_pr else plan.parent,
                )
        except HubError as error:
            raise HubError(
                f"{error}. The run in {run} is unchanged; another push uploads only what is missing"
            ) from error
    return replace(plan, url=str(made.pr_url or made.commit_url))


def title(results: RunResults) -> str:
    """The title of a run's commit: `full: 61.3 % UAR on test (speaker split)`."""
    main = results.main_metric
    found = METRICS[main][1](results.test.get(main)).text
    return f"{results.method}: {found} {main.upper()} on test ({results.split['name']} split)"


def full_name(api: HfApi, repo_id: str) -> str:
    """`name` becomes `user/name`, with the user of the token."""
    return repo_id if "/" in repo_id else f"{api.whoami()['name']}/{repo_id}"


def stage(run: Path, folder: Path, *, base_model: str | None, adapter_only: bool, clip_names: bool) -> dict[str, Path]:
    """
    Writes the published files, except for the card and the weights, into `folder`, without paths of this machine. Returns all
    but the card by their paths in the repository.

    Raises:
        FileNotFoundError, ValueError: see [`push`].
    """
    if not (run / RESULTS).is_file():
        raise FileNotFoundError(
            f"{str(run)!r} holds no finished run: it has no results.json, which a run writes last. Resume the run first."
        )
    results = RunResults.from_dict(without_paths(RunResults.read(run).to_dict()))
    if base_model:
        results = replace(results, base_model=base_model, base_model_on_hub=True)
    root = run / "adapter" if adapter_only and (run / "adapter").is_dir() else run
    unmerged = (root / ADAPTER).is_file()
    if adapter_only and not unmerged:
        raise ValueError(f"adapter_only: {str(run)!r} is a run without an adapter (method {results.method})")
    if unmerged and not results.base_model_on_hub:
        raise ValueError(
            f"base_model: the adapter in {str(run)!r} needs its base model, which is a local folder ({results.base_model}). "
            "Give the base model's name on the Hub, or publish a merged checkpoint (save_format: merged)."
        )
    files = {}
    for path in [path for pattern in MODEL_FILES for path in (*root.glob(pattern), *root.glob(f"adapter/{pattern}"))]:
        name = path.relative_to(root).as_posix()
        (folder / name).parent.mkdir(exist_ok=True)
        if path.suffix == ".json":
            content = without_paths(records.read(path))
            content.pop("_name_or_path", None)
            if path.name == ADAPTER_CONFIG:
                content["base_model_name_or_path"] = results.base_model
            records.write(folder / name, content)
        elif path.suffix == ".safetensors":
            files[name] = path
        else:
            shutil.copy(path, folder / name)
    report = read_report(run, results)
    split = SavedSplit.read(run / SPLITS).content
    results.write(folder)
    records.write(folder / SPLITS, split if clip_names else hashed(split))
    if report:
        records.write(folder / REPORT, report if clip_names else without_names(report))
    for name in (*PLOTS, *(PICTURES.values() if report else ())):
        if (run / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(run / name, folder / name)
    if clip_names:
        with (
            (run / EXCLUDED).open(newline="", encoding="utf-8") as source,
            (folder / EXCLUDED).open("w", newline="", encoding="utf-8") as target,
        ):
            # A reason may name the file that is missing.
            csv.writer(target).writerows(map(without_paths, csv.reader(source)))
    return files | {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def without_names(report: dict[str, Any]) -> dict[str, Any]:
    """A report with hashes instead of the names of clips and speakers, as in a published `splits.json`."""
    if NAMED_BY in report:
        return report
    report = copy.deepcopy(report)
    # Sorted, because the order of the names would reveal them.
    speakers = report["quality"]["speakers"].items()
    report["quality"]["speakers"] = dict(sorted((hash_name(name), metrics) for name, metrics in speakers))
    leakage = report["leakage"] or {}
    for entry in leakage.get("duplicates") or []:
        entry |= {key: hash_name(entry[key]) for key in ("clip", "train_clip")}
    if leakage.get("speakers"):
        leakage["speakers"] = sorted(map(hash_name, leakage["speakers"]))
    report["notes"] = [note.partition(EXAMPLE)[0] for note in report["notes"]]
    return report | BY_HASH


def require_public(files: dict[str, Path], run: Path, token: str | None) -> None:
    """Refuses a file, or metadata of weights, that contains a path of this machine or a token."""
    folders, tokens = [Path.home(), Path.cwd(), run.resolve()], [token] if token else []
    for name, path in files.items():
        if path.suffix == ".png":
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                text = str(file.metadata())
        else:
            text = path.read_text(encoding="utf-8")
        if found := find_private(text, folders, tokens):
            raise ValueError(f"{name} contains {found}, which must not be published; nothing was pushed")


def require_fitting_base(adapter: Path, token: str | None) -> None:
    """
    Compares the `config.json` in an adapter's folder with that of its base model on the Hub.

    Raises:
        HubError: if the base model is not on the Hub.
        ValueError: if its encoder has another shape or norm; or if it has as many labels as the adapter, with other names: a
            plain pipeline would open the adapter on that head and answer with the wrong emotions.
    """
    base = records.read(adapter / ADAPTER_CONFIG)["base_model_name_or_path"]
    with explained(base):
        theirs = AutoConfig.from_pretrained(base, token=token, **NO_CODE)
    ours = AutoConfig.from_pretrained(adapter, **NO_CODE)
    for key in SHAPE:
        found, expected = (getattr(encoder_config(config), key, None) for config in (theirs, ours))
        if found != expected:
            raise ValueError(
                f"base_model: {base} is not the adapter's base model: its {key} is {found}, expected {expected}. Give the model "
                "that the run started from; nothing was pushed."
            )
    if len(theirs.id2label) == len(ours.id2label) and theirs.id2label != ours.id2label:
        raise ValueError(
            f"base_model: {base} has {len(theirs.id2label)} labels of its own ({', '.join(theirs.id2label.values())}), as many "
            f"as the adapter ({', '.join(ours.id2label.values())}): a plain pipeline would answer with the wrong ones. Publish a "
            "merged checkpoint (save_format: merged, without adapter_only)."
        )


def plan_push(api: HfApi, repo_id: str, additions: Iterable[CommitOperationAdd], revision: str | None) -> Plan:
    """The changes of a push."""
    parent, siblings = None, None
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True)
        parent, siblings = info.sha, info.siblings
    except RevisionNotFoundError:  # the branch will be created from the main one
        siblings = api.model_info(repo_id, files_metadata=True).siblings
    except RepositoryNotFoundError:
        pass
    there = {file.rfilename: file for file in siblings or []}
    changes = dict.fromkeys(replaceable(there), "deleted")
    for addition in additions:
        known = there.get(addition.path_in_repo)
        same = known and known.lfs and known.lfs.sha256 == addition.upload_info.sha256.hex()
        if known and not known.lfs:
            with addition.as_file() as file:
                same = known.blob_id == git_hash(file.read())
        changes[addition.path_in_repo] = "new" if known is None else "same" if same else "changed"
    return Plan(repo_id, parent, changes)


def replaceable(files: Iterable[str]) -> list[str]:
    """Those files of a repository that a push may change or delete."""
    return [name for name in files if any(fnmatch(name, pattern) for pattern in PUSHED)]


def refuse_to_replace(repo_id: str, replaced: list[str]) -> None:
    """Refuses a push that would replace files."""
    if replaced:
        raise FileExistsError(
            f"{repo_id} holds {counted(len(replaced), 'file')} that this push would replace ({', '.join(replaced[:4])}"
            f"{', ...' if len(replaced) > 4 else ''}). Choose another name or a new branch (revision), open a pull request "
            "(create_pr), or allow it (overwrite)."
        )


def check_repository(
    repo_id: str, *, revision: str | None, overwrite: bool, license: str | None, token: str | None
) -> str:
    """
    Checks before a training whether its run can be published, and changes nothing. See [`push`] for the arguments; `overwrite` is
    true for a pull request, too. Returns `user/name`.

    Raises:
        FileExistsError: if the branch holds files that the push may replace, without `overwrite`.
        HubError: if the Hub accepts neither token nor licence, or cannot be reached.
    """
    api = HfApi(token=token, library_name="hf_ser")
    with explained(repo_id, revision):
        repo_id = full_name(api, repo_id)
        api.whoami()
        if license:  # only the Hub knows the licences that it accepts
            ModelCard(f"---\n{ModelCardData(license=license).to_yaml()}\n---\n").validate()
        files = files_there(api, repo_id, revision)
    if not overwrite:
        refuse_to_replace(repo_id, replaceable(files))
    return repo_id
