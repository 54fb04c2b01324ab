"""Unmodified clients against the test Hub: huggingface_hub and transformers, mostly in this process."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import httpx2
import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    get_token,
    hf_hub_download,
    is_offline_mode,
    snapshot_download,
    whoami,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from transformers import AutoConfig, AutoModel, HubertModel

OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"
WEIGHTS = bytes(range(256)) * 200  # large enough for LFS
CARD = """---
license: cc-by-nc-sa-4.0
pipeline_tag: audio-classification
library_name: transformers
base_model: lab/base
tags: [speech, emotion]
model-index:
- name: tiny
  results:
  - task: {type: audio-classification}
    dataset: {type: ravdess, name: RAVDESS}
    metrics:
    - {type: recall, value: 0.5}
---
# A model
"""


@pytest.fixture
def api() -> HfApi:
    return HfApi()


@pytest.fixture
def repo(hub: Any, api: HfApi) -> str:
    """A repository with a card, a small file, a large one and one in a folder."""
    api.create_repo("lab/tiny")
    files = {"README.md": CARD.encode(), "config.json": b"{}", "model.safetensors": WEIGHTS, "runs/log.txt": b"one\n"}
    api.create_commit(
        "lab/tiny", [CommitOperationAdd(path, content) for path, content in files.items()], commit_message="Add all"
    )
    return "lab/tiny"


def puts(hub: Any) -> list[str]:
    return [path for method, path in hub.requests if method == "PUT"]


def read(repo: str, path: str, **options: Any) -> bytes:
    return Path(hf_hub_download(repo, path, **options)).read_bytes()


# Repositories


def test_who_is_logged_in(hub: Any) -> None:
    assert get_token() == hub.token
    assert whoami()["name"] == "lab"


def test_a_repository_is_created_once(hub: Any, api: HfApi) -> None:
    url = api.create_repo("lab/tiny")
    assert (url, url.repo_id) == (f"{hub.endpoint}/lab/tiny", "lab/tiny")
    assert api.create_repo("tiny", exist_ok=True).repo_id == "lab/tiny"
    with pytest.raises(HfHubHTTPError, match="already created this model repo"):
        api.create_repo("lab/tiny")
    api.delete_repo("lab/tiny")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("lab/tiny")
    api.delete_repo("lab/tiny", missing_ok=True)


def test_the_namespace_of_others_is_refused(hub: Any, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="rights to write under the namespace 'others'"):
        api.create_repo("others/tiny")


def test_what_is_told_of_a_repository(repo: str, api: HfApi) -> None:
    info = api.model_info(repo, files_metadata=True)
    assert (info.id, info.private, info.pipeline_tag) == (repo, False, "audio-classification")
    assert info.library_name == "transformers"
    assert {"transformers", "speech", "emotion", "license:cc-by-nc-sa-4.0"} <= set(info.tags)
    assert info.card_data.eval_results[0].metric_value == 0.5
    files = {file.rfilename: file for file in info.siblings}
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors", "runs/log.txt"}
    assert files["model.safetensors"].lfs.size == len(WEIGHTS)
    assert files["config.json"].lfs is None
    assert [model.id for model in api.list_models(author="lab")] == [repo]
    assert list(api.list_models(author="others")) == []


def test_files_are_listed(hub: Any, repo: str, api: HfApi) -> None:
    hub.page_size = 2
    every = {entry.path for entry in api.list_repo_tree(repo, recursive=True)}
    assert every == {".gitattributes", "README.md", "config.json", "model.safetensors", "runs", "runs/log.txt"}
    assert {entry.path for entry in api.list_repo_tree(repo)} == every - {"runs/log.txt"}
    assert [entry.path for entry in api.list_repo_tree(repo, "runs")] == ["runs/log.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "additional_chat_templates"))
    found = {entry.path: entry for entry in api.get_paths_info(repo, ["model.safetensors", "runs", "none"])}
    assert set(found) == {"model.safetensors", "runs"}
    assert found["model.safetensors"].lfs.size == len(WEIGHTS)
    assert api.file_exists(repo, "config.json")
    assert not api.file_exists(repo, "none.json")


def test_a_dataset_is_pushed_and_loaded(hub: Any) -> None:
    clips = datasets.Dataset.from_dict({"path": ["a.wav", "b.wav"], "emotion": ["calm", "angry"]})
    clips.push_to_hub("lab/clips")
    assert datasets.load_dataset("lab/clips", split="train").to_dict() == clips.to_dict()


def test_another_kind_of_repository(hub: Any, api: HfApi) -> None:
    api.create_repo("lab/tiny", repo_type="dataset")
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="a.bin", repo_id="lab/tiny", repo_type="dataset")
    assert read("lab/tiny", "a.bin", repo_type="dataset") == WEIGHTS
    assert not api.repo_exists("lab/tiny")


# Commits


def test_large_files_are_stored_once(hub: Any, repo: str, api: HfApi, tmp_path: Path) -> None:
    assert len(puts(hub)) == 1
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "config.json").write_bytes(b"{}")
    head = api.model_info(repo).sha
    assert api.upload_folder(repo_id=repo, folder_path=tmp_path).oid == head, "nothing has changed"
    (tmp_path / "config.json").write_bytes(b'{"a": 1}')
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "copy.safetensors")
    assert api.upload_folder(repo_id=repo, folder_path=tmp_path).oid != head
    assert len(puts(hub)) == 1
    assert read(repo, "config.json") == b'{"a": 1}'
    assert read(repo, "copy.safetensors") == WEIGHTS


def test_files_are_deleted_and_copied(repo: str, api: HfApi) -> None:
    operations = [
        CommitOperationDelete("config.json"),
        CommitOperationDelete("runs/"),
        CommitOperationCopy("model.safetensors", "best/model.safetensors"),
    ]
    api.create_commit(repo, operations, commit_message="Tidy up")
    assert set(api.list_repo_files(repo)) == {
        ".gitattributes", "README.md", "model.safetensors", "best/model.safetensors",
    }  # fmt: skip
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(repo, "config.json")
    with pytest.raises(RemoteEntryNotFoundError, match="is_folder"):
        api.create_commit(repo, [CommitOperationDelete("best")], commit_message="Not a file")


def test_commits_are_listed(repo: str, api: HfApi) -> None:
    assert [commit.title for commit in api.list_repo_commits(repo)] == ["Add all", "initial commit"]


def test_a_commit_on_an_old_one_is_refused(repo: str, api: HfApi) -> None:
    first = api.list_repo_commits(repo)[-1].commit_id
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(repo, [CommitOperationAdd("a.txt", b"a")], commit_message="Late", parent_commit=first)


def test_a_branch_leaves_main_alone(repo: str, api: HfApi) -> None:
    head = api.model_info(repo).sha
    api.create_branch(repo, branch="try/it")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(repo, branch="try/it")
    made = api.create_commit(repo, [CommitOperationAdd("config.json", b"[1]")], commit_message="Try", revision="try/it")
    assert read(repo, "config.json", revision="try/it") == b"[1]"
    assert read(repo, "config.json") == b"{}"
    assert {branch.name: branch.target_commit for branch in api.list_repo_refs(repo).branches} == {
        "main": head,
        "try/it": made.oid,
    }
    api.delete_branch(repo, branch="try/it")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "config.json", revision="try/it")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(repo, [CommitOperationAdd("config.json", b"[2]")], commit_message="Try", revision="try/it")


def test_a_pull_request_leaves_main_alone(repo: str, api: HfApi) -> None:
    head = api.model_info(repo).sha
    files = [CommitOperationAdd("config.json", b"[1]"), CommitOperationAdd("model.safetensors", WEIGHTS[1:])]
    made = api.create_commit(repo, files, commit_message="Propose", create_pr=True)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert api.model_info(repo).sha == head
    assert read(repo, "config.json", revision="refs/pr/1") == b"[1]"
    assert read(repo, "model.safetensors", revision="refs/pr/1") == WEIGHTS[1:]
    api.create_commit(repo, [CommitOperationAdd("config.json", b"[2]")], commit_message="Better", revision="refs/pr/1")
    assert read(repo, "config.json", revision="refs/pr/1") == b"[2]"
    assert len(api.list_repo_refs(repo, include_pull_requests=True).pull_requests) == 1


def test_a_tag_stays(repo: str, api: HfApi) -> None:
    api.create_tag(repo, tag="v1.0")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(repo, tag="v1.0")
    api.upload_file(path_or_fileobj=b"[1]", path_in_repo="config.json", repo_id=repo)
    assert read(repo, "config.json", revision="v1.0") == b"{}"
    api.delete_tag(repo, tag="v1.0")
    assert api.list_repo_refs(repo).tags == []


# Who may what


def test_a_private_repository_is_not_there_for_others(hub: Any, repo: str, api: HfApi, tmp_path: Path) -> None:
    api.update_repo_settings(repo, private=True)
    assert api.model_info(repo).private
    assert read(repo, "config.json") == b"{}"
    for token in (False, hub.login("other")):
        for ask in (api.model_info, api.list_repo_files):
            with pytest.raises(RepositoryNotFoundError):
                ask(repo, token=token)
        with pytest.raises(RepositoryNotFoundError):
            snapshot_download(repo, token=token, cache_dir=tmp_path)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download(repo, "config.json", token=token, cache_dir=tmp_path)
        assert list(api.list_models(author="lab", token=token)) == []


def test_a_wrong_token_is_told_from_a_missing_repository(repo: str, api: HfApi) -> None:
    for ask in (api.model_info, api.list_repo_files):
        with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
            ask(repo, token="hf_wrong")
        assert not isinstance(error.value, RepositoryNotFoundError)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")


def test_only_who_may_write_writes(hub: Any, repo: str, api: HfApi) -> None:
    file = {"path_or_fileobj": b"a", "path_in_repo": "a.txt", "repo_id": repo}
    for token in (hub.login("lab", role="read"), hub.login("other")):
        with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
            api.upload_file(**file, token=token)
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(**file, token=False)
    assert api.upload_file(**file, token=hub.login("other"), create_pr=True).pr_num == 1
    api.upload_file(**file, token=hub.login("ann", organizations=("lab",)))
    assert api.file_exists(repo, "a.txt")


# Downloads


def test_a_snapshot_by_branch_and_by_commit_then_offline(
    hub: Any, repo: str, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(snapshot_download(repo))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "runs/log.txt").read_bytes() == b"one\n"
    old = api.model_info(repo).sha
    assert folder.name == old
    api.upload_file(path_or_fileobj=b"[1]", path_in_repo="config.json", repo_id=repo)
    hub.requests.clear()
    assert snapshot_download(repo, revision=old) == str(folder)
    new = Path(snapshot_download(repo))
    assert ((folder / "config.json").read_bytes(), (new / "config.json").read_bytes()) == (b"{}", b"[1]")
    assert not any(method == "GET" and "model.safetensors" in path for method, path in hub.requests)

    monkeypatch.setattr(OFFLINE, True)
    assert is_offline_mode()
    hub.requests.clear()
    assert snapshot_download(repo) == str(new)
    assert read(repo, "model.safetensors", revision=old) == WEIGHTS
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("lab/other")
    assert hub.requests == []


def test_head_and_range(hub: Any, repo: str, api: HfApi) -> None:
    url = f"{hub.endpoint}/{repo}/resolve/main/model.safetensors"
    head = get_session().head(url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(WEIGHTS)))
    assert head.headers["X-Repo-Commit"] == api.model_info(repo).sha
    for asked, expected in (("0-99", WEIGHTS[:100]), ("51000-", WEIGHTS[51000:]), ("-7", WEIGHTS[-7:])):
        part = get_session().get(url, headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, expected)
    assert get_session().get(url, headers={"Range": "bytes=51200-"}).status_code == 416


def test_what_is_not_there(hub: Any, repo: str) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(repo, "none.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "config.json", revision="none")
    for token in (None, False):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("lab/none", "config.json", token=token)
    hub.close()
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(repo, "config.json", revision="v2")


# Faults


def test_a_download_that_was_cut_is_resumed(hub: Any, repo: str) -> None:
    hub.fail("GET", "resolve/", after_bytes=1000, times=2)
    assert read(repo, "model.safetensors") == WEIGHTS
    assert len([path for method, path in hub.requests if (method, path[-11:]) == ("GET", "safetensors")]) == 3


def test_a_download_that_is_always_cut_leaves_nothing(hub: Any, repo: str) -> None:
    hub.fail("GET", "resolve/", after_bytes=0, times=100)
    with pytest.raises(httpx2.RemoteProtocolError):
        hf_hub_download(repo, "model.safetensors")
    hub.faults.clear()
    hub.fail("GET", "resolve/", after_bytes=1000, reset=True, times=100)
    with pytest.raises(httpx2.ReadError):
        hf_hub_download(repo, "model.safetensors")
    hub.faults.clear()
    assert read(repo, "model.safetensors") == WEIGHTS


def test_an_upload_that_was_cut_succeeds_when_repeated(hub: Any, api: HfApi) -> None:
    api.create_repo("lab/tiny")
    upload = {"path_or_fileobj": WEIGHTS, "path_in_repo": "a.bin", "repo_id": "lab/tiny"}
    hub.fail("PUT", "/lfs/", after_bytes=1000, times=100)
    with pytest.raises(RuntimeError, match="Error while uploading 'a.bin'"):
        api.upload_file(**upload)
    assert api.list_repo_files("lab/tiny") == [".gitattributes"]
    hub.faults.clear()
    hub.fail("PUT", "/lfs/", after_bytes=1000)
    api.upload_file(**upload)
    assert read("lab/tiny", "a.bin") == WEIGHTS


def test_a_server_that_fails(hub: Any, repo: str, api: HfApi) -> None:
    hub.fail("POST", "/preupload/", status=503, times=2)
    api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id=repo)
    hub.fail("POST", "/commit/", status=500)
    with pytest.raises(HfHubHTTPError, match="500"):
        api.upload_file(path_or_fileobj=b"b", path_in_repo="a.txt", repo_id=repo)
    assert read(repo, "a.txt") == b"a"


def test_a_commit_whose_answer_is_lost_is_there(hub: Any, repo: str, api: HfApi) -> None:
    hub.fail("POST", "/commit/", lost_answer=True)
    with pytest.raises(httpx2.RemoteProtocolError):
        api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id=repo)
    assert read(repo, "a.txt") == b"a"


# Model cards


def test_a_good_card_is_accepted(hub: Any) -> None:
    ModelCard(CARD).validate()
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        HfApi()._validate_yaml("# No metadata")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cc-by-nc-sa-4.0", "mine", '"license" must be one of'),
        ("lab/base", "/home/me/base model", '"base_model\\[0\\]" with value "/home/me/base model" is not valid'),
        ("{type: ravdess, name: RAVDESS}", "{type: ravdess}", '"model-index\\[0\\].results\\[0\\].dataset.name" is required'),
        ("value: 0.5", "name: UAR", '"model-index\\[0\\].results\\[0\\].metrics\\[0\\].value" is required'),
        ("{type: audio-classification}", "audio", '"model-index\\[0\\].results\\[0\\].task" is of the wrong type'),
        ("[speech, emotion]", "[1]", '"tags\\[0\\]" must be a string'),
    ],
)  # fmt: skip
def test_a_bad_card_is_refused(repo: str, api: HfApi, old: str, new: str, message: str) -> None:
    card = CARD.replace(old, new)
    with pytest.raises(ValueError, match=message):
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo)
    assert read(repo, "README.md") == CARD.encode()


def test_a_bad_card_is_refused_before_it_is_pushed(hub: Any) -> None:
    with pytest.raises(ValueError, match='"license" must be one of'):
        ModelCard(CARD.replace("cc-by-nc-sa-4.0", "mine")).validate()


def test_a_card_that_is_no_yaml_is_refused(repo: str, api: HfApi) -> None:
    with pytest.raises(ValueError, match="YAML Metadata Error"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id=repo)


def test_a_card_is_pushed_and_loaded(repo: str) -> None:
    card = ModelCard.load(repo)
    card.text += "\nMore.\n"
    card.push_to_hub(repo)
    assert "More." in ModelCard.load(repo).text


# transformers


def test_a_model_is_pushed_and_opened(
    hub: Any, tiny_hubert: Path, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = HubertModel.from_pretrained(tiny_hubert)
    model.push_to_hub("lab/hubert", private=True)
    model.push_to_hub("lab/hubert", revision="second", commit_message="Again")
    assert len(puts(hub)) == 1
    sha = api.model_info("lab/hubert").sha
    for revision in ("main", "second", sha):
        assert AutoConfig.from_pretrained("lab/hubert", revision=revision).model_type == "hubert"
        opened = AutoModel.from_pretrained("lab/hubert", revision=revision)
        for name, parameter in model.state_dict().items():
            torch.testing.assert_close(opened.state_dict()[name], parameter, rtol=0, atol=0)
    with pytest.raises(OSError, match="is not a valid model identifier"):
        AutoModel.from_pretrained("lab/hubert", token=False, cache_dir=tmp_path)
    with pytest.raises(OSError, match="is not a valid git identifier"):
        AutoModel.from_pretrained("lab/hubert", revision="third")

    monkeypatch.setattr(OFFLINE, True)
    hub.requests.clear()
    AutoModel.from_pretrained("lab/hubert")
    assert hub.requests == []


def test_the_environment_leads_a_new_process_here(hub: Any, repo: str, python: Any, tmp_path: Path) -> None:
    script = tmp_path / "push.py"
    script.write_text(
        "from huggingface_hub import HfApi, snapshot_download\n"
        "api = HfApi()\n"
        "print(api.whoami()['name'], api.endpoint)\n"
        f"api.upload_file(path_or_fileobj=bytes(20_000), path_in_repo='b.bin', repo_id={repo!r})\n"
        f"print(snapshot_download({repo!r}))\n"
    )
    ran = python(script, **hub.environment)
    assert ran.returncode == 0, ran.stderr
    first, folder = ran.stdout.splitlines()
    assert first == f"lab {hub.endpoint}"
    assert folder.startswith(hub.environment["HF_HOME"])
    assert (Path(folder) / "b.bin").read_bytes() == bytes(20_000)


def test_afterwards_all_is_as_before() -> None:
    from huggingface_hub import constants, hf_api

    assert is_offline_mode()
    assert constants.ENDPOINT == hf_api.api.endpoint == "https://huggingface.co"
