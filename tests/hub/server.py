"""A Hugging Face Hub for tests: in memory, on 127.0.0.1, with the part of the HTTP protocol that unmodified clients use.

In this order: what is stored (`Blob`, `Commit`, `Repository`), the check of model cards (`card_errors`), requests and answers
(`Request`, `Answer`, `Refusal`, `Fault`), the connection (`Connection`), the Hub itself (`HubServer`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LFS_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".onnx", ".png", ".jpg", ".wav", ".flac", ".parquet", ".arrow"}
LFS_SIZE = 10_000_000
LICENSES = {"mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-sa-4.0", "unknown", "other"}
ANONYMOUS = "Invalid username or password."


# What is stored


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(f"blob {len(self.content)}\0".encode() + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        """The blob as listings show it."""
        size = len(self.content)
        lfs = {"lfs": {"oid": self.sha256, "size": size, "pointerSize": 130}} if self.lfs else {}
        return {"type": "file", "path": path, "size": size, "oid": self.oid, **lfs}


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
        """The full name of a branch or a pull request, the first that there is."""
        names = (revision, f"refs/heads/{revision}")
        return next((name for name in names if name in self.refs), None)

    def commit(self, revision: str) -> Commit:
        if name := self.ref(revision):
            return self.refs[name]
        known = {commit.oid: commit for head in self.refs.values() for commit in head.history}
        if revision not in known:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return known[revision]


# The check of model cards


def card_data(content: str) -> Any:
    """The YAML block at the start of a card, `None` if there is none.

    Raises:
        yaml.YAMLError: if it is not valid.
    """
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    return yaml.safe_load(block.group(1)) if block else None


def card_words(data: dict[str, Any], name: str) -> list[Any]:
    """The values of a card under a name: a single value stands for a list of one."""
    value = data.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def card_errors(content: str) -> list[str]:
    """What the Hub would refuse in the YAML block of a card, as far as the tests need it."""
    try:
        data = card_data(content) or {}
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"]
    words = [(name, word) for name in ("license", "base_model", "datasets") for word in card_words(data, name)]
    return [
        f'"{name}" with value {word!r} is not valid'
        for name, word in words
        if (word not in LICENSES if name == "license" else not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(word)))
    ]


# Requests and answers


@dataclass(frozen=True)
class User:
    name: str
    role: str


@dataclass
class Fault:
    """The failure of the next `times` requests of this method whose path contains `path`.

    - `status`: the answer is this status, and nothing else happens.
    - `after_bytes`: the connection ends after so many bytes of the request's body, or of the answer if it has none.
    - `reset`: the connection is reset, which clients treat differently from an early end.
    - `lost_answer`: the request takes effect, but its answer is lost.
    - `seconds`: the answer comes so late.
    - `claims`: the answer's headers claim that it has so many bytes.
    """

    method: str
    path: str
    status: int | None = None
    after_bytes: int | None = None
    reset: bool = False
    lost_answer: bool = False
    seconds: float = 0
    claims: int | None = None
    times: float = 1


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


@dataclass
class Answer:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, default=str).encode()


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        headers = {"X-Error-Message": message.split("\n")[0]}
        if code:
            headers["X-Error-Code"] = code
        self.answer = Answer({"error": message, **more}, status, headers)


class Cut(Exception):
    """The connection is to end here."""


# The connection


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
        fault = self.server.fault(self.command, self.path) or Fault("", "")
        try:
            body = self.read_body(fault.after_bytes)
            if fault.status:
                answer = Answer({"error": "the server has a fault"}, fault.status)
            else:
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                answer = self.server.answer(Request(self.command, url.path, query, self.headers, body))
            if fault.lost_answer:
                raise Cut
            time.sleep(fault.seconds)
            self.send(answer, None if body else fault.after_bytes, fault.claims)
        except Cut:
            self.close_connection = True
            if fault.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def read_body(self, at_most: int | None) -> bytes:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size if at_most is None else min(size, at_most))
        if len(body) < size:
            raise Cut
        return body

    def send(self, answer: Answer, at_most: int | None, claims: int | None = None) -> None:
        content = answer.content()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if claims is None else claims))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:at_most])
        if (at_most is not None and at_most < len(content)) or claims is not None:
            raise Cut

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


# The Hub

KIND = r"(?P<kind>models|datasets|spaces)"
REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
PREFIX = r"(?:(?P<kind>datasets|spaces)/)?"
REVISION = r"(?P<revision>[^/]+)"


class HubServer(ThreadingHTTPServer):
    """An empty Hub with one user, lab, whose token is `token`.

    `environment`: variables for a client that is logged in as lab, with its cache in `home`. `tokens`: the users.
    `repositories`: by kind and name. `requests`: method and path of every request so far. `faults`: the failures to come.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, home: Path) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.tokens: dict[str, User] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self.token = self.login("lab")
        self.environment = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

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
        token = f"hf_{name}_{role}"
        self.tokens[token] = User(name, role)
        return token

    def fail(self, method: str, path: str, **how: Any) -> None:
        """Lets the next such request fail, as `Fault` says."""
        self.faults.append(Fault(method, path, **how))

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def answer(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            self.user(request)
            for (verb, pattern), handle in ROUTES.items():
                if verb == method and (match := re.fullmatch(pattern, request.path)):
                    parts: dict[str, Any] = {
                        name: unquote(part) for name, part in match.groupdict().items() if part is not None
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

    def user(self, request: Request) -> User | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        token = header.removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def writer(self, request: Request, owner: str | None = None) -> User:
        """The user, if they may write, and where `owner` is given, to its repositories."""
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        if user.role != "write":
            raise Refusal(403, "You must use a token with the write role")
        if owner not in (None, user.name):
            raise Refusal(403, f"You don't have the rights to write under the namespace {owner!r}")
        return user

    def repository(self, request: Request, kind: str, repo: str) -> Repository:
        """A repository that the user may read."""
        user = self.user(request)
        found = self.repositories.get((kind, repo))
        if found and (not found.private or (user and found.owner == user.name)):
            return found
        # A private repository looks like a missing one.
        raise Refusal(404, "Repository not found", "RepoNotFound") if user else Refusal(401, ANONYMOUS)

    # The Hub as a whole

    def whoami(self, request: Request) -> dict[str, Any]:
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role}}
        return {"type": "user", "name": user.name, "fullname": user.name, "orgs": [], "auth": auth}

    def validate_yaml(self, request: Request) -> Answer:
        content = request.json()["content"]
        errors = card_errors(content)
        status = 400 if errors else 200
        if request.headers.get("Accept") == "text/plain":
            return Answer("\n".join(errors).encode(), status, {"Content-Type": "text/plain"})
        return Answer({"errors": [{"message": error} for error in errors], "warnings": []}, status)

    def named(self, request: Request) -> tuple[str, str]:
        """The kind and name of a repository in a request's body, if the user may write there."""
        body = request.json()
        owner = body.get("organization") or self.writer(request).name
        self.writer(request, owner)
        return f"{body.get('type') or 'model'}s", f"{owner}/{body['name']}"

    def create(self, request: Request) -> dict[str, Any]:
        kind, repo = self.named(request)
        body = request.json()
        private = body.get("private") or body.get("visibility") == "private"
        first = Commit({".gitattributes": Blob(ATTRIBUTES)}, "initial commit", "", repo.split("/")[0])
        made = Repository(kind, repo, bool(private), {"refs/heads/main": first})
        url = f"{self.endpoint}/{made.address}"
        if (kind, repo) in self.repositories:
            raise Refusal(409, f"You already created this {kind[:-1]} repo", url=url)
        self.repositories[kind, repo] = made
        return {"url": url}

    def delete(self, request: Request) -> dict[str, Any]:
        kind, repo = self.named(request)
        self.repository(request, kind, repo)
        del self.repositories[kind, repo]
        return {}

    # One repository

    def info(self, request: Request, repository: Repository, revision: str = "main") -> dict[str, Any]:
        commit = repository.commit(revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if request.flag("blobs"):
            for sibling in siblings:
                entry = commit.files[sibling["rfilename"]].entry("")
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if "lfs" in entry:
                    sibling["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
        return {
            "id": repository.id,
            "sha": commit.oid,
            "private": repository.private,
            "tags": [],
            "siblings": siblings,
            "lastModified": commit.date,
        }

    def tree(self, request: Request, repository: Repository, revision: str, path: str = "") -> list[dict[str, Any]]:
        entries = repository.commit(revision).entries()
        if path and path not in entries:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        folder, deep = PurePosixPath(path), request.flag("recursive")
        return [e for p, e in entries.items() if folder in (PurePosixPath(p).parents[: None if deep else 1])]

    def paths_info(self, request: Request, repository: Repository, revision: str) -> list[dict[str, Any]]:
        paths = parse_qs(request.body.decode())["paths"]
        return [entry for path, entry in repository.commit(revision).entries().items() if path in paths]

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

    def preupload(self, request: Request, repository: Repository, revision: str) -> dict[str, Any]:
        self.writer(request, None if request.flag("create_pr") else repository.owner)
        files = repository.commit(revision).files
        modes = []
        for file in request.json()["files"]:
            path = file["path"]
            large = file["size"] > LFS_SIZE or PurePosixPath(path).suffix in LFS_SUFFIXES
            known = {"oid": files[path].etag} if path in files else {}
            modes.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known})
        return {"files": modes}

    def lfs_batch(self, request: Request, repository: Repository) -> dict[str, Any]:
        self.writer(request)
        base = f"{self.endpoint}/lfs/{repository.kind}/{repository.id}"
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in request.json()["objects"]]
        for missing in objects:
            if missing["oid"] not in repository.objects:
                missing["actions"] = {"upload": {"href": f"{base}/{missing['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, request: Request, kind: str, name: str, oid: str) -> dict[str, Any]:
        # Comes without a token: the address alone is the permission, as with the Hub's storage.
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "The content is not that of the announced object")
        self.repositories[kind, name].objects[oid] = request.body
        return {}

    def commit(self, request: Request, repository: Repository, revision: str) -> dict[str, Any]:
        create_pr = request.flag("create_pr")
        user = self.writer(request, None if create_pr else repository.owner)
        ref = repository.ref(revision)
        if ref is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = repository.refs[ref]
        header, *changes = [json.loads(line) for line in request.body.splitlines()]
        header = header["value"]
        if header.get("parentCommit") not in (None, parent.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for change in changes:
            self.apply(repository, files, change["key"], change["value"])
        made = Commit(files, header["summary"], header["description"], user.name, parent)
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
        path = value["path"].rstrip("/")
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
            if path == "README.md" and (errors := card_errors(files[path].content.decode())):
                raise Refusal(400, "\n".join(errors))
        elif key == "lfsFile":
            if value["oid"] not in repository.objects:
                raise Refusal(400, f"LFS pointer of {path} points to a file that does not exist")
            files[path] = Blob(repository.objects[value["oid"]], lfs=True)
        else:
            gone = [name for name in files if (f"{name}/".startswith(f"{path}/") if "Folder" in key else name == path)]
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]

    def commits(self, request: Request, repository: Repository, revision: str) -> list[dict[str, Any]]:
        return [
            {
                "id": made.oid,
                "title": made.title,
                "message": made.message,
                "date": made.date,
                "authors": [{"user": made.author}],
            }
            for made in repository.commit(revision).history
        ]

    # Branches

    def refs(self, request: Request, repository: Repository) -> dict[str, Any]:
        branches = [{"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": commit.oid}
                    for ref, commit in repository.refs.items() if ref.startswith("refs/heads/")]  # fmt: skip
        return {"branches": branches, "converts": [], "tags": []}

    def create_branch(self, request: Request, repository: Repository, branch: str) -> dict[str, Any]:
        self.writer(request, repository.owner)
        if f"refs/heads/{branch}" in repository.refs:
            raise Refusal(409, f"Reference already exists: {branch}")
        repository.refs[f"refs/heads/{branch}"] = repository.commit(request.json().get("startingPoint", "main"))
        return {}

    def delete_branch(self, request: Request, repository: Repository, branch: str) -> dict[str, Any]:
        self.writer(request, repository.owner)
        if repository.refs.pop(f"refs/heads/{branch}", None) is None:
            raise Refusal(404, f"Reference does not exist: {branch}", "RevisionNotFound")
        return {}


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", r"/api/whoami-v2"): HubServer.whoami,
    ("GET", r"/api/agent-harnesses"): lambda hub, request: {"standardEnvVars": [], "harnesses": {}},
    ("POST", r"/api/validate-yaml"): HubServer.validate_yaml,
    ("POST", r"/api/repos/create"): HubServer.create,
    ("DELETE", r"/api/repos/delete"): HubServer.delete,
    ("GET", rf"/api/{KIND}/{REPO}/revision/{REVISION}"): HubServer.info,
    ("GET", rf"/api/{KIND}/{REPO}/tree/{REVISION}(?:/(?P<path>.+))?"): HubServer.tree,
    ("POST", rf"/api/{KIND}/{REPO}/paths-info/{REVISION}"): HubServer.paths_info,
    ("POST", rf"/api/{KIND}/{REPO}/preupload/{REVISION}"): HubServer.preupload,
    ("POST", rf"/api/{KIND}/{REPO}/commit/{REVISION}"): HubServer.commit,
    ("GET", rf"/api/{KIND}/{REPO}/commits/{REVISION}"): HubServer.commits,
    ("GET", rf"/api/{KIND}/{REPO}/refs"): HubServer.refs,
    ("POST", rf"/api/{KIND}/{REPO}/branch/(?P<branch>[^/]+)"): HubServer.create_branch,
    ("DELETE", rf"/api/{KIND}/{REPO}/branch/(?P<branch>[^/]+)"): HubServer.delete_branch,
    ("GET", rf"/api/{KIND}/{REPO}"): HubServer.info,
    ("POST", rf"/{PREFIX}{REPO}\.git/info/lfs/objects/batch"): HubServer.lfs_batch,
    ("PUT", rf"/lfs/{KIND}/(?P<name>.+)/(?P<oid>[0-9a-f]{{64}})"): HubServer.lfs_upload,
    ("GET", rf"/{PREFIX}{REPO}/resolve/{REVISION}/(?P<path>.+)"): HubServer.resolve,
}
