"""A Hugging Face Hub for tests: in memory, on 127.0.0.1, with the part of the HTTP protocol that unmodified clients use."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import inspect
import json
import re
import secrets
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

LFS_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".onnx", ".png", ".jpg", ".wav", ".flac", ".parquet", ".arrow"}
LICENSES = {"mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "unknown", "other"}
ANONYMOUS = "Invalid username or password."
KIND, REPO, REVISION = r"(?P<kind>models|datasets|spaces)", r"(?P<repo>[^/]+(?:/[^/]+)?)", r"(?P<revision>[^/]+)"
PREFIX = r"(?:(?P<kind>datasets|spaces)/)?"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = []


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool = False

    @cached_property
    def etag(self) -> str:
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(f"blob {len(self.content)}\0".encode() + self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """The blob as listings show it."""
        size = len(self.content)
        lfs = {"lfs": {"oid": self.etag, "sha256": self.etag, "size": size, "pointerSize": 130}} if self.lfs else {}
        return {"type": "file", "path": path, "size": size, "oid": self.etag, **lfs}


@dataclass(frozen=True)
class Commit:
    files: dict[str, Blob]
    title: str
    message: str
    author: str
    parent: Commit | None = None
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    oid: str = field(default_factory=lambda: secrets.token_hex(20))

    @property
    def date(self) -> str:
        return self.time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    @property
    def history(self) -> list[Commit]:
        """This commit and those before it, the last first."""
        return [self, *(self.parent.history if self.parent else [])]

    def entries(self) -> dict[str, dict[str, Any]]:
        """All files and folders, as listings show them."""
        found = {path: blob.entry(path) for path, blob in self.files.items()}
        for folder in {str(parent) for path in self.files for parent in PurePosixPath(path).parents} - {"."}:
            found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40}
        return dict(sorted(found.items()))


@dataclass
class Repository:
    kind: str
    id: str
    private: bool
    refs: dict[str, Commit]
    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def address(self) -> str:
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def ref(self, revision: str) -> str | None:
        """The full name of a branch or a pull request, if there is one."""
        return next((name for name in (revision, f"refs/heads/{revision}") if name in self.refs), None)

    def commit(self, revision: str) -> Commit:
        if name := self.ref(revision):
            return self.refs[name]
        known = {commit.oid: commit for head in self.refs.values() for commit in head.history}
        if revision not in known:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return known[revision]


def card_errors(content: str) -> list[str]:
    """What the Hub would refuse in the YAML block at the start of a card, as far as the tests need it."""
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    try:
        data = (yaml.safe_load(block.group(1)) if block else None) or {}
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"]
    values = {name: data.get(name) or [] for name in ("license", "base_model", "datasets")}
    words = [(name, word) for name, of in values.items() for word in (of if isinstance(of, list) else [of])]
    return [
        f'"{name}" with value {word!r} is not valid'
        for name, word in words
        if (word not in LICENSES if name == "license" else not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(word)))
    ]


@dataclass
class Fault:
    """The failure of the next `times` requests of this method whose path contains `path`.

    - `status`: the answer is this status, and nothing else happens.
    - `after_bytes`: the connection ends after so many bytes of the answer; with `reset` it is reset.
    - `lost_answer`: the request takes effect, but its answer is lost.
    - `seconds`: the answer comes so late.
    - `claims`: the answer's headers claim that it has so many bytes.
    - `other_bytes`: the answer has as many bytes as the file, and the last one is another.
    """

    method: str = ""
    path: str = ""
    status: int | None = None
    after_bytes: int | None = None
    reset: bool = False
    lost_answer: bool = False
    seconds: float = 0
    claims: int | None = None
    other_bytes: bool = False
    times: float = 1


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        headers = {"X-Error-Message": message.split("\n")[0], **({"X-Error-Code": code} if code else {})}
        self.answer = Answer({"error": message, **more}, status, headers)


class Connection(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle_request(self) -> None:
        self.server.requests.append((self.command, self.path))
        fault = self.server.fault(self.command, self.path)
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            if fault.status:
                answer = Answer({"error": "the server has a fault"}, fault.status)
            else:
                answer = self.server.answer(Request(self.command, url.path, parse_qs(url.query), self.headers, body))
            time.sleep(fault.seconds)
            if not fault.lost_answer:
                self.send(answer, fault)
            self.close_connection |= fault.lost_answer or fault.after_bytes is not None or fault.claims is not None
            if fault.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def send(self, answer: Answer, fault: Fault) -> None:
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        if fault.other_bytes:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if fault.claims is None else fault.claims))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: fault.after_bytes])
            self.server.sent.append((self.path, len(content)))

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def route(method: str, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A method of `HubServer` answers such requests. It gets the repository that the path names, and the path's other parts."""

    def register(handle: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, path, handle))
        return handle

    return register


class HubServer(ThreadingHTTPServer):
    """An empty Hub with one user, lab, whose token is `token`.

    `environment`: variables for a client that is logged in as lab, with its cache in `home`. `tokens`: the names and roles of
    users. `repositories`: by kind and name. `requests`: method and path of every request so far. `sent`: the paths that were
    asked for, and the bytes of the answers. `faults`: the failures to come.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, home: Path) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.tokens: dict[str, tuple[str, str]] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.sent: list[tuple[str, int]] = []
        self.faults: list[Fault] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self.token = self.login("lab")
        self.environment = {
            "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"), "HF_TOKEN": self.token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Ends the server and its open connections: from then on the endpoint refuses."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def login(self, name: str, role: str = "write") -> str:
        """A token for a user, whose role is "write" or "read"."""
        self.tokens[f"hf_{name}_{role}"] = (name, role)
        return f"hf_{name}_{role}"

    def fail(self, method: str, path: str, **how: Any) -> None:
        """Lets the next such request fail, as `Fault` says."""
        self.faults.append(Fault(method, path, **how))

    def fault(self, method: str, path: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return Fault()

    def answer(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            self.user(request)
            for verb, pattern, handle in ROUTES:
                if verb == method and (match := re.fullmatch(pattern, request.path)):
                    parts: dict[str, Any] = {
                        k: unquote(part) for k, part in match.groupdict().items() if part is not None
                    }
                    with self.lock:
                        if "repo" in parts:
                            kind = parts.pop("kind", "models")
                            parts["repository"] = self.repository(request, kind, parts.pop("repo"))
                        result = handle(self, request, **parts)
                    return result if isinstance(result, Answer) else Answer(result)
            raise Refusal(404, f"The test Hub does not answer {request.method} {request.path}")
        except Refusal as refusal:
            # Over https clients know a 401 for a missing repository by the address, over http by this code alone.
            of_repository = re.match(r"/api/(models|datasets|spaces)/|.*/resolve/", request.path)
            if of_repository and refusal.answer.headers["X-Error-Message"] == ANONYMOUS:
                refusal.answer.headers["X-Error-Code"] = "RepoNotFound"
            return refusal.answer
        except Exception:
            traceback.print_exc()
            return Answer({"error": "a fault of the test Hub: its traceback is in stderr"}, 500)

    # Users and their repositories

    def user(self, request: Request) -> tuple[str, str] | None:
        """The name and the role of whoever asks."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        if (token := header.removeprefix("Bearer ")) not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def writer(self, request: Request, owner: str | None = None) -> str:
        """The user, if they may write, and where `owner` is given, to its repositories."""
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        if user[1] != "write":
            raise Refusal(403, "You must use a token with the write role")
        if owner not in (None, user[0]):
            raise Refusal(403, f"You don't have the rights to write under the namespace {owner!r}")
        return user[0]

    def repository(self, request: Request, kind: str, repo: str) -> Repository:
        """A repository that the user may read."""
        user, found = self.user(request), self.repositories.get((kind, repo))
        if found and (not found.private or (user and found.owner == user[0])):
            return found
        # A private repository looks like a missing one.
        raise Refusal(404, "Repository not found", "RepoNotFound") if user else Refusal(401, ANONYMOUS)

    @route("GET", r"/api/whoami-v2")
    def whoami(self, request: Request) -> dict[str, Any]:
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": user[1]}}
        return {"type": "user", "name": user[0], "fullname": user[0], "orgs": [], "auth": auth}

    @route("GET", r"/api/agent-harnesses")
    def agent_harnesses(self, request: Request) -> dict[str, Any]:
        return {"standardEnvVars": [], "harnesses": {}}

    @route("POST", r"/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Answer:
        errors = card_errors(request.json()["content"])
        status = 400 if errors else 200
        if request.headers.get("Accept") == "text/plain":
            return Answer("\n".join(errors).encode(), status, {"Content-Type": "text/plain"})
        return Answer({"errors": [{"message": error} for error in errors], "warnings": []}, status)

    def named(self, request: Request) -> tuple[str, str]:
        """The kind and name of a repository in a request's body, if the user may write there."""
        body = request.json()
        owner = body.get("organization") or self.writer(request)
        self.writer(request, owner)
        return f"{body.get('type') or 'model'}s", f"{owner}/{body['name']}"

    @route("POST", r"/api/repos/create")
    def create(self, request: Request) -> dict[str, Any]:
        (kind, repo), body = self.named(request), request.json()
        private = body.get("private") or body.get("visibility") == "private"
        first = Commit({".gitattributes": Blob(b"*.bin filter=lfs\n")}, "initial commit", "", repo.split("/")[0])
        made = Repository(kind, repo, bool(private), {"refs/heads/main": first})
        url = f"{self.endpoint}/{made.address}"
        if (kind, repo) in self.repositories:
            raise Refusal(409, f"You already created this {kind[:-1]} repo", url=url)
        self.repositories[kind, repo] = made
        return {"url": url}

    @route("DELETE", r"/api/repos/delete")
    def delete(self, request: Request) -> dict[str, Any]:
        kind, repo = self.named(request)
        self.repository(request, kind, repo)
        del self.repositories[kind, repo]
        return {}

    # What is in a repository

    @route("GET", rf"/api/{KIND}/{REPO}/revision/{REVISION}")
    @route("GET", rf"/api/{KIND}/{REPO}")
    def info(self, request: Request, repository: Repository, revision: str = "main") -> dict[str, Any]:
        commit = repository.commit(revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if request.flag("blobs"):
            entries = [commit.files[sibling["rfilename"]].entry("") for sibling in siblings]
            siblings = [{**s, **entry, "blobId": entry["oid"]} for s, entry in zip(siblings, entries, strict=True)]
        return {"id": repository.id, "sha": commit.oid, "private": repository.private, "tags": [], "siblings": siblings,
                "lastModified": commit.date}  # fmt: skip

    @route("GET", rf"/api/{KIND}/{REPO}/tree/{REVISION}(?:/(?P<path>.+))?")
    def tree(self, request: Request, repository: Repository, revision: str, path: str = "") -> list[dict[str, Any]]:
        entries = repository.commit(revision).entries()
        if path and path not in entries:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        folder, deep = PurePosixPath(path), request.flag("recursive")
        return [e for p, e in entries.items() if folder in (PurePosixPath(p).parents[: None if deep else 1])]

    @route("POST", rf"/api/{KIND}/{REPO}/paths-info/{REVISION}")
    def paths_info(self, request: Request, repository: Repository, revision: str) -> list[dict[str, Any]]:
        paths = parse_qs(request.body.decode())["paths"]
        return [entry for path, entry in repository.commit(revision).entries().items() if path in paths]

    @route("GET", rf"/{PREFIX}{REPO}/resolve/{REVISION}/(?P<path>.+)")
    def resolve(self, request: Request, repository: Repository, revision: str, path: str) -> Answer:
        commit = repository.commit(revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return Answer({"error": "Entry not found"}, 404, headers)
        blob = commit.files[path]
        size = len(blob.content)
        headers |= {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not asked:
            return Answer(blob.content, headers=headers)
        first, last = asked.groups()
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start >= end:
            return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
        return Answer(blob.content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})

    # Commits

    @route("POST", rf"/api/{KIND}/{REPO}/preupload/{REVISION}")
    def preupload(self, request: Request, repository: Repository, revision: str) -> dict[str, Any]:
        self.writer(request, None if request.flag("create_pr") else repository.owner)
        files, modes = repository.commit(revision).files, []
        for path in (file["path"] for file in request.json()["files"]):
            mode = "lfs" if PurePosixPath(path).suffix in LFS_SUFFIXES else "regular"
            known = {"oid": files[path].etag} if path in files else {}
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        return {"files": modes}

    @route("POST", rf"/{PREFIX}{REPO}\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, repository: Repository) -> dict[str, Any]:
        self.writer(request)
        base = f"{self.endpoint}/lfs/{repository.kind}/{repository.id}"
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in request.json()["objects"]]
        for missing in objects:
            if missing["oid"] not in repository.objects:
                missing["actions"] = {"upload": {"href": f"{base}/{missing['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    @route("PUT", rf"/lfs/{KIND}/(?P<name>.+)/(?P<oid>[0-9a-f]{{64}})")
    def lfs_upload(self, request: Request, kind: str, name: str, oid: str) -> dict[str, Any]:
        # Comes without a token: the address alone is the permission, as with the Hub's storage.
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "The content is not that of the announced object")
        self.repositories[kind, name].objects[oid] = request.body
        return {}

    @route("POST", rf"/api/{KIND}/{REPO}/commit/{REVISION}")
    def commit(self, request: Request, repository: Repository, revision: str) -> dict[str, Any]:
        create_pr = request.flag("create_pr")
        user = self.writer(request, None if create_pr else repository.owner)
        ref = repository.ref(revision)
        if ref is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = repository.refs[ref]
        header, *changes = [json.loads(line) for line in request.body.splitlines()]
        if header["value"].get("parentCommit") not in (None, parent.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for change in changes:
            self.apply(repository, files, change["key"], change["value"])
        made = Commit(files, header["value"]["summary"], header["value"]["description"], user, parent)
        url = f"{self.endpoint}/{repository.address}"
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{url}/commit/{made.oid}"}
        if create_pr:
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.refs)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        repository.refs[ref] = made
        return answer

    def apply(self, repository: Repository, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        """Changes a commit's files as one line of its body says."""
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
            if path == "README.md" and (errors := card_errors(files[path].content.decode())):
                raise Refusal(400, "\n".join(errors))
        elif key == "lfsFile":
            if value["oid"] not in repository.objects:
                raise Refusal(400, f"LFS pointer of {path} points to a file that does not exist")
            files[path] = Blob(repository.objects[value["oid"]], lfs=True)
        elif key != "deletedFile" or files.pop(path, None) is None:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")

    @route("GET", rf"/api/{KIND}/{REPO}/commits/{REVISION}")
    def commits(self, request: Request, repository: Repository, revision: str) -> list[dict[str, Any]]:
        return [{"id": made.oid, "title": made.title, "message": made.message, "date": made.date,
                 "authors": [{"user": made.author}]} for made in repository.commit(revision).history]  # fmt: skip

    # Branches

    @route("GET", rf"/api/{KIND}/{REPO}/refs")
    def refs(self, request: Request, repository: Repository) -> dict[str, Any]:
        branches = [{"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": commit.oid}
                    for ref, commit in repository.refs.items() if ref.startswith("refs/heads/")]  # fmt: skip
        return {"branches": branches, "converts": [], "tags": []}

    @route("POST", rf"/api/{KIND}/{REPO}/branch/(?P<branch>[^/]+)")
    def create_branch(self, request: Request, repository: Repository, branch: str) -> dict[str, Any]:
        self.writer(request, repository.owner)
        if f"refs/heads/{branch}" in repository.refs:
            raise Refusal(409, f"Reference already exists: {branch}")
        repository.refs[f"refs/heads/{branch}"] = repository.commit(request.json().get("startingPoint", "main"))
        return {}

    @route("DELETE", rf"/api/{KIND}/{REPO}/branch/(?P<branch>[^/]+)")
    def delete_branch(self, request: Request, repository: Repository, branch: str) -> dict[str, Any]:
        self.writer(request, repository.owner)
        if repository.refs.pop(f"refs/heads/{branch}", None) is None:
            raise Refusal(404, f"Reference does not exist: {branch}", "RevisionNotFound")
        return {}


@contextmanager
def running_hub(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty Hub, with a user "lab" who is logged in, in this process and in those that it starts.

    See `HubServer` for what it offers. Clients read their addresses and folders when they are called, from
    constants that they have set at import: so those are changed, too, and no default argument is in the way. A test goes
    offline with `monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)`.
    """
    import datasets.config
    import transformers.utils.hub
    from huggingface_hub import constants, file_download, hf_api
    from huggingface_hub.utils import _cache_manager, _detect_agent, _http

    server = HubServer(home)
    for name, value in server.environment.items():
        patch.setenv(name, value)
    for name, value in {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        patch.setattr(constants, name, value)
    for name, value in {
        "HF_ENDPOINT": server.endpoint,
        "HUB_DATASETS_URL": server.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_HUB_OFFLINE": False,
        "HF_DATASETS_OFFLINE": False,
        "HF_DATASETS_CACHE": home / "datasets",
        "DOWNLOADED_DATASETS_PATH": home / "datasets" / "downloads",
        "EXTRACTED_DATASETS_PATH": home / "datasets" / "downloads" / "extracted",
    }.items():
        patch.setattr(datasets.config, name, value)
    # A copy in another module, and clients that were made before.
    patch.setattr(_cache_manager, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(hf_api.api, "endpoint", server.endpoint)
    patch.setattr(transformers.utils.hub, "_hf_api", None)
    # Asked for once in a process, by whichever test is the first.
    patch.setattr(_detect_agent, "_registry", {"standardEnvVars": [], "harnesses": {}})
    # A client tries again and again: here without a pause.
    for function in (_http.http_backoff, inspect.unwrap(_http.http_stream_backoff)):
        patch.setitem(function.__kwdefaults__, "base_wait_time", 0)
    patch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
    _http.close_session()
    server.start()
    yield server
    server.close()
    _http.close_session()
