"""A finished run goes to the Hub: one commit, with everything that a reader needs and nothing that is only yours."""

import csv
import hashlib
import io
import json
import logging
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, ModelCardData, get_token
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig

from hf_ser import records, splits
from hf_ser.hub.card import write_card
from hf_ser.hub.card.report import PICTURES, read_report
from hf_ser.hub.errors import HubError, again, explained, is_refusal
from hf_ser.hub.loading import ADAPTER
from hf_ser.hub.privacy import find_private, without_paths
from hf_ser.records import REPORT, RESULTS, SPLITS
from hf_ser.wording import per_cent

logger = logging.getLogger(__name__)

ADAPTER_FILES = ("adapter_config.json", ADAPTER, "config.json", "preprocessor_config.json")
#: What of a run goes up as it is, and what is written anew for publication.
WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
#: The code of the package's own model class, which transformers saves with it.
CODE = ("*_ser.py",)
PLOTS = ("confusion_matrix.png", "training_curves.png")
CONFIGURATIONS = ("config.json", "preprocessor_config.json", "adapter_config.json")
WRITTEN = ("README.md", RESULTS, SPLITS)
#: What an earlier push may have left that this one does not have: it would belong to another model.
OURS = (*WEIGHTS, *CODE, *PLOTS, *CONFIGURATIONS, *WRITTEN, ADAPTER, REPORT, *PICTURES, "set_aside.csv", "adapter/*")
#: What of an encoder's configuration, Whisper's words among them, must be the same for an adapter to fit it.
SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim", "conv_kernel", "conv_stride",
         "feat_extract_norm", "do_stable_layer_norm", "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim",
         "num_mel_bins", "feature_projection_input_dim")  # fmt: skip
#: Where an example begins in a report's notes: it may name a clip.
EXAMPLE = ", for instance: "


@dataclass(frozen=True)
class PushOptions:
    """
    How a run is published.

    Args:
        private (`bool`, *optional*): Whether a repository that is made for it is private.
        revision (`str`, *optional*): The branch, made if there is none; by default the main one.
        create_pr (`bool`, defaults to `False`): Open a pull request instead of writing to the branch.
        overwrite (`bool`, defaults to `False`): Replace what the branch holds.
        adapter_only (`bool`, defaults to `False`): Of a merged LoRA run, the adapter alone.
        clip_names (`bool`, defaults to `False`):
            Name the clips in `splits.json` and `set_aside.csv`, and clips and speakers in `report.json`, in place of hashes.
        base_model (`str`, *optional*): The base model's name on the Hub, if the run began with a folder.
        license (`str`, *optional*): The licence's identifier on the Hub, by default the corpus'.
        token (`str`, *optional*): A token that may write, by default the one of `hf auth login` or `HF_TOKEN`.
    """

    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    overwrite: bool = False
    adapter_only: bool = False
    clip_names: bool = False
    base_model: str | None = None
    license: str | None = None
    token: str | None = None

    def words(self) -> list[str]:
        """These options as scripts/push.py takes them, without the token."""
        words: list[str] = []
        for name, value in vars(self).items():
            if name != "token" and value:
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words


@dataclass(frozen=True)
class Plan:
    """
    What a push would change.

    Args:
        repo_id (`str`): The repository.
        exists (`bool`): Whether there is one already.
        commit (`str`, *optional*): The commit that the branch is at, `None` if there is no such branch.
        changes (`dict[str, str]`): For each file `new`, `changed`, `same` or `deleted`.
        sizes (`dict[str, int]`): The bytes of each file that goes up.
    """

    repo_id: str
    exists: bool
    commit: str | None
    changes: dict[str, str]
    sizes: dict[str, int]

    @property
    def replaces(self) -> list[str]:
        """The files of the branch that would not stay as they are."""
        return [path for path, change in self.changes.items() if change in ("changed", "deleted")]

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return any(change != "same" for change in self.changes.values())

    def __str__(self) -> str:
        head = f"{self.repo_id} ({'is there' if self.exists else 'new'})"
        lines = [
            f"  {change:<8} {_size(self.sizes.get(path)):>10}  {path}" for path, change in sorted(self.changes.items())
        ]
        return "\n".join([head, *lines])


def push(
    run: Path, repo_id: str, options: PushOptions = PushOptions(), *, dry_run: bool = False
) -> tuple[Plan, str | None]:
    """
    Publishes a finished run in one commit. A failure leaves the run as it is, and what was uploaded is not uploaded again.

    Args:
        run (`Path`): The run's folder.
        repo_id (`str`): `user/name`, or `name` in the namespace of the token.
        options (`PushOptions`, *optional*): How.
        dry_run (`bool`, defaults to `False`): Change nothing, and only say what would change.

    Returns:
        What was (or would be) changed, and the address of the commit or pull request: `None` if there is none.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
        FileExistsError: if the branch holds something else, and nothing was said about it.
        ValueError: if the run cannot be published so: an adapter alone whose base is nowhere, a path or token in a file.
        HubError: if the Hub cannot take it; says how to continue.
    """
    api = HfApi(token=options.token, library_name="hf_ser")
    with explained(repo_id):
        repo_id = full_name(api, repo_id)
    with tempfile.TemporaryDirectory(prefix="hf_ser-push-") as staged:
        files = stage(run, Path(staged), repo_id, options)
        if ADAPTER in files:
            require_fitting_base(api, json.loads(files["adapter_config.json"].read_text(encoding="utf-8")), files)
        with explained(repo_id, options.revision):
            plan = compare(api, repo_id, files, options.revision)
            # The Hub would say so only when the weights are there, and the repository is made.
            again(ModelCard.load(files["README.md"]).validate, repo_id)
        if dry_run:
            return plan, None
        # A branch that is not there yet replaces nothing.
        if plan.commit and plan.replaces and not (options.overwrite or options.create_pr):
            raise FileExistsError(
                f"{repo_id} holds a model already, and this push would replace {len(plan.replaces)} of its files "
                f"({', '.join(plan.replaces[:4])}{', ...' if len(plan.replaces) > 4 else ''}). See what would change with "
                "--dry_run; then allow it with --overwrite, or choose another name, a --revision BRANCH or a pull request "
                "(--create_pr)."
            )
        try:
            with explained(repo_id, options.revision):
                return plan, _publish(api, repo_id, files, plan, options, summary(run))
        except HubError as error:
            if is_refusal(error):
                raise HubError(f"{error}. Nothing is lost: the run is in {run}") from error
            command = shlex.join(["python", "scripts/push.py", str(run), repo_id, *options.words()])
            raise HubError(
                f"{error}. Nothing is lost: the run is in {run}, and `{command}` goes on from here"
            ) from error


def full_name(api: HfApi, repo_id: str) -> str:
    """`name` becomes `user/name`, with the user of the token."""
    if "/" in repo_id:
        return repo_id
    if not (api.token or get_token()):
        raise HubError(f"{repo_id}: you are not logged in. Run `hf auth login`, set HF_TOKEN or pass a token")
    return f"{api.whoami()['name']}/{repo_id}"


def summary(run: Path) -> str:
    """What a run is, in the words of its commit."""
    results = records.read_results(run / RESULTS)
    uar = results["metrics"]["test"]["uar"]
    return f"{results['method']}: {per_cent(uar):.1f} % UAR on test ({results['split']['name']} split)"


def stage(run: Path, folder: Path, repo_id: str, options: PushOptions) -> dict[str, Path]:
    """
    Gathers what goes up: weights and plots from where they are, the rest written anew into `folder`, without paths of this
    machine and (unless asked for) names of clips.

    Returns:
        The files by their paths in the repository.

    Raises:
        FileNotFoundError, ValueError: see [`push`].
    """
    if not (run / RESULTS).is_file():
        raise FileNotFoundError(
            f"{str(run)!r} holds no finished run: it has no results.json. A run writes it last; an unfinished one goes on "
            "with --resume_from_checkpoint True."
        )
    results = without_paths(records.read_results(run / RESULTS))
    if options.base_model:
        results |= {"base_model": options.base_model, "base_model_on_hub": True}
    root = run / "adapter" if options.adapter_only and (run / "adapter").is_dir() else run
    alone = (root / ADAPTER).is_file()
    if options.adapter_only and not alone:
        raise ValueError(f"adapter_only: {str(run)!r} is a run without an adapter ({results['method']})")
    if alone and not results["base_model_on_hub"]:
        raise ValueError(
            f"{str(run)!r}: an adapter alone is of use only with its base model, and that is a folder of yours "
            f"({results['base_model']}). Say its name on the Hub (base_model), or publish a merged checkpoint "
            "(--save_format merged)."
        )
    files = {path.name: path for pattern in (*WEIGHTS, *CODE, ADAPTER) for path in sorted(root.glob(pattern))}
    files |= {name: Path(shutil.copy(run / name, folder)) for name in PLOTS if (run / name).is_file()}
    if not alone and (run / "adapter").is_dir():
        beside = [run / "adapter" / name for name in ADAPTER_FILES] + sorted((run / "adapter").glob(CODE[0]))
        files |= {f"adapter/{path.name}": path for path in beside}
    if options.clip_names:
        files["set_aside.csv"] = folder / "set_aside.csv"
        files["set_aside.csv"].write_text(without_paths_in_lines(run / "set_aside.csv"), encoding="utf-8")

    split = splits.SavedSplit.read(run / SPLITS).content
    written = {RESULTS: results, SPLITS: split if options.clip_names else splits.hashed(split)}
    for path in [root / name for name in CONFIGURATIONS] + [file for file in files.values() if file.suffix == ".json"]:
        if path.is_file():
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
            content = json.loads(path.read_text(encoding="utf-8"))
            if name.endswith("adapter_config.json"):
                content["base_model_name_or_path"] = results["base_model"]
            content.pop("_name_or_path", None)
            written[name] = without_paths(content)
    if report := read_report(run, results):
        written[REPORT] = report if options.clip_names else without_names(report)
        for name in PICTURES:
            if (run / name).is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                files[name] = Path(shutil.copy(run / name, folder / name))
    for name, content in written.items():
        files[name] = folder / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(results, folder, model_id=repo_id, revision=options.revision, license=options.license)
    files["README.md"] = folder / "README.md"
    require_public(files, run, options)
    return files


def without_paths_in_lines(path: Path) -> str:
    """A CSV without paths of this machine: a clip that is not there was set aside with the path that was tried."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [without_paths(row) for row in csv.reader(file)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def without_names(report: dict[str, Any]) -> dict[str, Any]:
    """A report with a hash in place of each clip's and speaker's name, as in a published `splits.json`."""
    if splits.NAMED_BY in report:
        return report
    quality, leakage = dict(report["quality"]), dict(report.get("leakage") or {})
    if quality.get("speakers"):
        by_hash = {splits.hash_name(name): figures for name, figures in quality["speakers"].items()}
        quality["speakers"] = dict(sorted(by_hash.items()))
    if leakage.get("speakers"):
        leakage["speakers"] = sorted(map(splits.hash_name, leakage["speakers"]))
    if leakage.get("duplicates"):
        leakage["duplicates"] = [
            {**entry, **{key: splits.hash_name(entry[key]) for key in ("clip", "train_clip")}}
            for entry in leakage["duplicates"]
        ]
    return {
        **report,
        splits.NAMED_BY: "the first 16 digits of the SHA-256 of the name",
        "quality": quality,
        "leakage": leakage or None,
        "notes": [note.partition(EXAMPLE)[0] for note in report.get("notes") or []],
    }


def require_public(files: dict[str, Path], run: Path, options: PushOptions) -> None:
    """
    Raises:
        ValueError: if a path of this machine or a token is in a file, or in the header of weights.
    """
    folders = [Path.home(), Path.cwd(), run.resolve()]
    tokens = [token for token in (options.token, get_token()) if token]
    for name, path in files.items():
        if path.suffix == ".png":
            continue
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                text = file.read(int.from_bytes(file.read(8), "little")).decode(errors="replace")
        else:
            text = path.read_text(encoding="utf-8")
        if found := find_private(text, folders, tokens):
            raise ValueError(f"{name} holds {found}, which must not be published; nothing was pushed")


def require_fitting_base(api: HfApi, adapter: dict[str, Any], files: dict[str, Path]) -> None:
    """
    Looks at the configuration of the base model that an adapter says is its own.

    Raises:
        HubError: if the base model is not on the Hub.
        ValueError: if the base is an encoder of another shape, or has as many labels as the adapter, with other names.
    """
    base = adapter["base_model_name_or_path"]
    with explained(base):
        theirs = json.loads(Path(api.hf_hub_download(base, "config.json")).read_text(encoding="utf-8"))
    ours = json.loads(files["config.json"].read_text(encoding="utf-8"))
    require_same_encoder(base, theirs, ours)
    require_own_labels(base, theirs, ours)


def require_same_encoder(base: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """
    An adapter opens on no encoder of another shape, and on one that normalises otherwise it answers wrongly.

    Args:
        base (`str`): The base model's name, for the message.
        theirs, ours (`dict`): What the `config.json` of the base model and of the adapter hold.

    Raises:
        ValueError: if the encoders differ; names the first difference with both values.
    """
    types = [(config.get("encoder") or config).get("model_type") for config in (theirs, ours)]
    differs = {"model_type": types} if types[0] != types[1] else {}
    if not differs:
        found, wanted = (_whole(config.get("encoder") or config) for config in (theirs, ours))
        differs = {key: [found.get(key), wanted.get(key)] for key in SHAPE if found.get(key) != wanted.get(key)}
    for key, (has, needed) in differs.items():
        raise ValueError(
            f"base_model: {base} is not the base model of this adapter, which could not be opened on it: its {key} is {has}, "
            f"and the adapter's {needed}. Name the one that the run began with; nothing was pushed."
        )


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """What the `config.json` of an encoder holds, with the defaults that it leaves out."""
    return dict(json.loads(AutoConfig.for_model(**config).to_json_string(use_diff=False)))


def require_own_labels(base: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """
    transformers puts an adapter on its base model's own head. With another number of labels that fails; with the same number
    it would answer in the base's names for them.

    Args:
        base (`str`): The base model's name, for the message.
        theirs, ours (`dict`): What the `config.json` of the base model and of the adapter hold.

    Raises:
        ValueError: if the base has as many labels as the adapter, with other names.
    """
    emotions = ours["id2label"]
    # A configuration with two labels, the default, does not say so.
    labels = theirs.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    if len(labels) == len(emotions) and labels != emotions:
        raise ValueError(
            f"{base} has {len(labels)} labels of its own ({', '.join(labels.values())}), as many as this adapter: a plain "
            f"pipeline would open it and answer in their names, not in {', '.join(emotions.values())}. Publish the merged "
            "checkpoint, which the adapter lies beside (--save_format merged, without adapter_only)."
        )


def compare(api: HfApi, repo_id: str, files: dict[str, Path], revision: str | None) -> Plan:
    """What a push of `files` would change."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    try:
        info = api.model_info(repo_id, revision=revision, files_metadata=True)
        commit = info.sha
    except RevisionNotFoundError:  # the branch will be made, from the main one
        info, commit = api.model_info(repo_id, files_metadata=True), None
    except RepositoryNotFoundError:
        return Plan(repo_id, False, None, dict.fromkeys(files, "new"), sizes)
    there = {
        sibling.rfilename: sibling.lfs.sha256 if sibling.lfs else sibling.blob_id for sibling in info.siblings or []
    }
    changes = {}
    for name, path in files.items():
        known = there.get(name)
        same = known is not None and known == (_sha256(path) if len(known) == 64 else _git_sha1(path))
        changes[name] = "new" if known is None else "same" if same else "changed"
    changes |= {
        name: "deleted" for name in there if name not in files and any(fnmatch(name, pattern) for pattern in OURS)
    }
    return Plan(repo_id, True, commit, changes, sizes)


def _publish(
    api: HfApi, repo_id: str, files: dict[str, Path], plan: Plan, options: PushOptions, message: str
) -> str | None:
    if not plan.exists:
        api.create_repo(repo_id, private=options.private, exist_ok=True)
    if options.revision and plan.commit is None and not options.create_pr:
        api.create_branch(repo_id, branch=options.revision, exist_ok=True)
    additions = [CommitOperationAdd(name, path) for name, path in sorted(files.items()) if plan.changes[name] != "same"]
    deletions = [CommitOperationDelete(name) for name, change in plan.changes.items() if change == "deleted"]
    revision, create_pr = options.revision, options.create_pr
    again(lambda: api.preupload_lfs_files(repo_id, additions, revision=revision, create_pr=create_pr), repo_id)

    def commit() -> str | None:
        # If the answer to an earlier try was lost, the commit is there already.
        if not create_pr and not compare(api, repo_id, files, revision).anything:
            return f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else "")
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*additions, *deletions]
        done = api.create_commit(
            repo_id,
            operations,
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
            # What another has pushed since is not overwritten.
            parent_commit=None if create_pr else plan.commit,
        )
        return str(done.pr_url if create_pr else done.commit_url)

    # A pull request is asked for once: a second one could not be told from the first.
    return commit() if create_pr else again(commit, repo_id)


def check_repository(repo_id: str, options: PushOptions) -> str:
    """
    Before a training: whether it can be published where it shall be. Changes nothing.

    Args:
        repo_id (`str`): `user/name`, or `name` in the namespace of the token.
        options (`PushOptions`): How the run will be published.

    Returns:
        `user/name`.

    Raises:
        FileExistsError: if the branch holds a model already, and nothing was said about it.
        HubError: if the token is none, the licence is none of the Hub's, or the Hub cannot be reached.
    """
    api = HfApi(token=options.token, library_name="hf_ser")
    with explained(repo_id, options.revision):
        repo_id = full_name(api, repo_id)
        api.whoami()
        if options.license:  # the Hub alone knows the licences that it takes
            metadata = ModelCardData(license=options.license).to_yaml()
            again(ModelCard(f"---\n{metadata}\n---\n").validate, repo_id)
        try:
            there = api.list_repo_files(repo_id, revision=options.revision)
        except (RevisionNotFoundError, RepositoryNotFoundError):
            there = []
    if any(name != ".gitattributes" for name in there) and not (options.overwrite or options.create_pr):
        raise FileExistsError(
            f"--hub_model_id: {repo_id} holds {len(there)} files already. Choose another name, --hub_revision BRANCH, "
            "--hub_create_pr True, or --hub_overwrite True to replace its model at the end."
        )
    return repo_id


def make_repository(repo_id: str, options: PushOptions) -> None:
    """
    Makes the repository if there is none: a token that may not is found out before the training, and not after it.

    Raises:
        HubError: if the Hub refuses.
    """
    with explained(repo_id):
        HfApi(token=options.token, library_name="hf_ser").create_repo(repo_id, private=options.private, exist_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
