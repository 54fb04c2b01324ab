"""Unmodified clients against the test Hub: what the other tests rely on, and would not notice if it were missing."""

from pathlib import Path
from typing import Any

import datasets
import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    hf_hub_download,
    is_offline_mode,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

WEIGHTS = bytes(range(256)) * 200
CARD = """---
license: cc-by-nc-sa-4.0
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
def api(hub: Any) -> HfApi:
    """A client; lab/tiny has a card, a small file, a large one and one in a folder."""
    api = HfApi()
    api.create_repo("lab/tiny")
    files = {"README.md": CARD.encode(), "config.json": b"{}", "model.safetensors": WEIGHTS, "runs/log.txt": b"one\n"}
    api.create_commit("lab/tiny", [CommitOperationAdd(*file) for file in files.items()], commit_message="Add all")
    return api


def write(api: HfApi, content: bytes, path: str = "config.json", **options: Any) -> Any:
    return api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="lab/tiny", **options)


def read(path: str, **options: Any) -> bytes:
    return Path(hf_hub_download("lab/tiny", path, **options)).read_bytes()


def test_only_the_owner_writes_and_reads_what_is_private(hub: Any, api: HfApi, tmp_path: Path) -> None:
    for token in (hub.login("lab", role="read"), hub.login("other")):
        with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
            write(api, b"a", token=token)
    with pytest.raises(HfHubHTTPError, match="rights to write under the namespace 'others'"):
        api.create_repo("others/tiny")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        api.model_info("lab/tiny", token="hf_wrong")
    api.create_repo("lab/secret", private=True)
    for token in (False, hub.login("other")):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("lab/secret", token=token)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("lab/secret", "config.json", token=token, cache_dir=tmp_path)
    assert api.model_info("lab/secret").private


def test_files_are_listed_stored_once_and_deleted(hub: Any, api: HfApi, tmp_path: Path) -> None:
    every = {".gitattributes", "README.md", "config.json", "model.safetensors", "runs", "runs/log.txt"}
    assert {entry.path for entry in api.list_repo_tree("lab/tiny", recursive=True)} == every
    assert [entry.path for entry in api.list_repo_tree("lab/tiny", "runs")] == ["runs/log.txt"]
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    head = api.model_info("lab/tiny").sha
    assert api.upload_folder(repo_id="lab/tiny", folder_path=tmp_path).oid == head, "nothing has changed"
    (tmp_path / "copy.safetensors").write_bytes(WEIGHTS)
    api.upload_folder(repo_id="lab/tiny", folder_path=tmp_path)
    assert read("copy.safetensors") == WEIGHTS
    assert [method for method, _ in hub.requests].count("PUT") == 1
    deletions = [CommitOperationDelete("config.json"), CommitOperationDelete("runs/")]
    api.create_commit("lab/tiny", deletions, commit_message="Tidy up")
    assert set(api.list_repo_files("lab/tiny")) == every - {"config.json", "runs", "runs/log.txt"} | {
        "copy.safetensors"
    }
    with pytest.raises(RemoteEntryNotFoundError):
        read("config.json")


def test_branches_pull_requests_and_tags_leave_main_alone(api: HfApi) -> None:
    first = api.list_repo_commits("lab/tiny")[-1].commit_id
    api.create_branch("lab/tiny", branch="try/it")
    api.create_tag("lab/tiny", tag="v1.0")
    write(api, b"[1]", revision="try/it")
    assert write(api, b"[2]", create_pr=True).pr_revision == "refs/pr/1"
    revisions = ("main", "v1.0", "try/it", "refs/pr/1")
    assert [read("config.json", revision=revision) for revision in revisions] == [b"{}", b"{}", b"[1]", b"[2]"]
    api.delete_branch("lab/tiny", branch="try/it")
    with pytest.raises(RevisionNotFoundError):
        write(api, b"[1]", revision="try/it")
    with pytest.raises(HfHubHTTPError, match="412"):
        write(api, b"[3]", parent_commit=first)


def test_downloads_by_commit_in_parts_and_offline(hub: Any, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    old, folder = api.model_info("lab/tiny").sha, snapshot_download("lab/tiny")
    write(api, b"[1]")
    assert snapshot_download("lab/tiny", revision=old) == folder
    assert [read("config.json", revision=revision) for revision in (old, "main")] == [b"{}", b"[1]"]
    url = f"{hub.endpoint}/lab/tiny/resolve/main/model.safetensors"
    for asked, expected in (("0-99", WEIGHTS[:100]), ("51000-", WEIGHTS[51000:]), ("-7", WEIGHTS[-7:])):
        assert get_session().get(url, headers={"Range": f"bytes={asked}"}).content == expected
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert read("config.json") == b"[1]"
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("lab/other")
    assert hub.requests == []


def test_faults(hub: Any, api: HfApi) -> None:
    hub.fail("GET", "resolve/", after_bytes=1000, reset=True, times=100)
    with pytest.raises(httpx2.ReadError):
        read("model.safetensors")
    hub.faults.clear()
    hub.fail("GET", "resolve/", after_bytes=1000, times=2)
    assert read("model.safetensors") == WEIGHTS
    hub.fail("PUT", "/lfs/", after_bytes=1000, times=100)
    with pytest.raises(RuntimeError, match="Error while uploading"):
        write(api, WEIGHTS[1:], "a.bin")
    hub.fail("POST", "/commit/", status=500)
    with pytest.raises(HfHubHTTPError, match="500"):
        write(api, b"[1]")
    assert read("config.json") == b"{}"
    hub.fail("POST", "/commit/", lost_answer=True)
    with pytest.raises(httpx2.RemoteProtocolError):
        write(api, b"[1]")
    assert read("config.json") == b"[1]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cc-by-nc-sa-4.0", "mine", '"license" must be one of'),
        ("lab/base", "/home/me/base model", '"base_model\\[0\\]" with value "/home/me/base model" is not valid'),
        ("{type: ravdess, name: RAVDESS}", "{type: ravdess}", '"model-index\\[0\\].results\\[0\\].dataset.name" is required'),
        ("value: 0.5", "name: UAR", '"model-index\\[0\\].results\\[0\\].metrics\\[0\\].value" is required'),
        ("{type: audio-classification}", "audio", '"model-index\\[0\\].results\\[0\\].task" is of the wrong type'),
        ("[speech, emotion]", "[1]", '"tags\\[0\\]" must be a string'),
        ("[speech, emotion]", "[", "YAML Metadata Error"),
    ],
)  # fmt: skip
def test_a_bad_card_is_refused(api: HfApi, old: str, new: str, message: str) -> None:
    ModelCard(CARD).validate()
    with pytest.raises(ValueError, match=message):
        write(api, CARD.replace(old, new).encode(), "README.md")
    assert read("README.md") == CARD.encode()


def test_a_dataset_is_pushed_and_loaded(hub: Any) -> None:
    clips = datasets.Dataset.from_dict({"path": ["a.wav", "b.wav"], "emotion": ["calm", "angry"]})
    clips.push_to_hub("lab/clips")
    assert datasets.load_dataset("lab/clips", split="train").to_dict() == clips.to_dict()


def test_the_environment_leads_a_new_process_here(hub: Any, api: HfApi, python: Any) -> None:
    code = "from huggingface_hub import *; print(whoami()['name'], snapshot_download('lab/tiny'))"
    ran = python("-c", code, **hub.environment)
    assert ran.returncode == 0, ran.stderr
    name, folder = ran.stdout.split()
    assert name == "lab"
    assert folder.startswith(hub.environment["HF_HOME"])


def test_afterwards_all_is_as_before() -> None:
    from huggingface_hub import constants, hf_api

    assert is_offline_mode()
    assert constants.ENDPOINT == hf_api.api.endpoint == "https://huggingface.co"
