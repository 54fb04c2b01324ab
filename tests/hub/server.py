"""A double of the Hugging Face Hub for tests: what unmodified clients ask of it over HTTP, in memory, on 127.0.0.1.

Front to back: what is stored (`Blob`, `Commit`, `Repository`), what a model card may say (`card_errors`), what is asked and
answered (`Request`, `Answer`, `Refusal`, `Fault`), the wire (`Connection`), the Hub itself (`HubServer`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LFS_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".onnx", ".png", ".jpg", ".wav", ".flac", ".parquet", ".arrow"}
LFS_SIZE = 10_000
LICENSES = {
    *("mit", "apache-2.0", "openrail", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0"),
    *(f"cc-by{more}-{version}" for more in ("", "-sa", "-nd", "-nc", "-nc-sa", "-nc-nd") for version in ("3.0", "4.0")),
    *("cc0-1.0", "unlicense", "llama3", "gemma", "unknown", "other"),
}
ANONYMOUS = "Invalid username or password."


def git_oid(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


# What is stored


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git keeps in place of an LFS file."""
        size = len(self.content)
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {size}\n".encode()

    @cached_property
    def oid(self) -> str:
        return git_oid("blob", self.pointer if self.lfs else self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    files: dict[str, Blob]
    title: str
    message: str = ""
    author: str = ""
    parent: Commit | None = None
    date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @cached_property
    def oid(self) -> str:
        tree = "".join(f"{blob.oid} {path}\n" for path, blob in sorted(self.files.items()))
        parent = self.parent.oid if self.parent else ""
        words = [tree, parent, self.title, self.message, self.author, self.date.isoformat()]
        return git_oid("commit", "\0".join(words).encode())

    def history(self) -> Iterator[Commit]:
        commit: Commit | None = self
        while commit:
            yield commit
            commit = commit.parent

    def entries(self, folder: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        """The files and folders below a folder, as the tree routes list them."""
        found: dict[str, dict[str, Any]] = {}
        for path, blob in self.files.items():
            if folder and not path.startswith(f"{folder}/"):
                continue
            below = PurePosixPath(path)
            parents = [str(parent) for parent in below.parents if str(parent) != "."]
            for parent in parents:
                if parent != folder and not folder.startswith(f"{parent}/"):
                    found[parent] = {"type": "directory", "path": parent, "oid": git_oid("tree", parent.encode())}
            found[path] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
            if blob.lfs:
                found[path]["lfs"] = {
                    "oid": blob.sha256,
                    "size": len(blob.content),
                    "pointerSize": len(blob.pointer),
                }
        depth = len(PurePosixPath(folder).parts) + 1
        return [found[path] for path in sorted(found) if recursive or len(PurePosixPath(path).parts) == depth]


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

    def ref(self, revision: str) -> str | None:
        """The full name of a branch, a pull request or a tag, the first that there is."""
        names = [revision, f"refs/heads/{revision}", f"refs/tags/{revision}"]
        return next((name for name in names if name in self.refs), None)

    def commit(self, revision: str) -> Commit:
        if name := self.ref(revision):
            return self.refs[name]
        for head in self.refs.values():
            for commit in head.history():
                if commit.oid == revision:
                    return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")


# What a model card may say


def card_data(content: str) -> Any:
    """The YAML at a card's top: None where there is none.

    Raises:
        yaml.YAMLError: It cannot be read.
    """
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", content, re.DOTALL)
    return yaml.safe_load(block.group(1)) if block else None


def card_errors(content: str) -> list[str]:
    """What the Hub would refuse in a model card's YAML."""
    try:
        data = card_data(content)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"]
    if data is None:
        return []
    if not isinstance(data, dict):
        return ["YAML Metadata Error: it must be a mapping"]
    errors = []

    def require(entry: Any, name: str, where: str, kind: type | tuple[type, ...] = str) -> Any:
        value = entry.get(name) if isinstance(entry, dict) else None
        if value is None or value == "":
            errors.append(f'"{where}.{name}" is required')
        elif not isinstance(value, kind):
            errors.append(f'"{where}.{name}" is of the wrong type')
        return value if isinstance(value, kind) else []

    def words(name: str) -> list[Any]:
        value = data.get(name)
        return value if isinstance(value, list) else [] if value is None else [value]

    for name in ("license", "language", "tags", "datasets", "metrics", "base_model", "pipeline_tag", "library_name"):
        errors += [f'"{name}[{i}]" must be a string' for i, word in enumerate(words(name)) if not isinstance(word, str)]
    errors += [f'"license" must be one of the known ones, got {w!r}' for w in words("license") if w not in LICENSES]
    for name in ("base_model", "datasets"):
        for i, word in enumerate(words(name)):
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(word)):
                errors.append(f'"{name}[{i}]" with value "{word}" is not valid. Use an id from https://hf.co.')
    index = data.get("model-index", [])
    if not isinstance(index, list):
        return [*errors, '"model-index" must be an array']
    for i, model in enumerate(index):
        require(model, "name", f"model-index[{i}]")
        for j, result in enumerate(require(model, "results", f"model-index[{i}]", list)):
            where = f"model-index[{i}].results[{j}]"
            require(require(result, "task", where, dict), "type", f"{where}.task")
            dataset = require(result, "dataset", where, dict)
            require(dataset, "type", f"{where}.dataset")
            require(dataset, "name", f"{where}.dataset")
            for k, metric in enumerate(require(result, "metrics", where, list)):
                require(metric, "type", f"{where}.metrics[{k}]")
                require(metric, "value", f"{where}.metrics[{k}]", object)
    return errors


# What is asked and answered


@dataclass(frozen=True)
class User:
    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of this method whose path contains `path`.

    With a `status` they are answered with it. With `after_bytes` the connection is cut once so many bytes of the body were
    read (of a request that has one) or sent (of the answer to any other); `reset` cuts it without the usual goodbye, so that
    the client sees a connection reset instead of an early end. With `lost_answer` the request takes effect, and its answer
    never comes.
    """

    method: str
    path: str
    status: int | None = None
    after_bytes: int | None = None
    reset: bool = False
    lost_answer: bool = False
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
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        headers = {"X-Error-Message": message.split("\n")[0]}
        if code:
            headers["X-Error-Code"] = code
        self.answer = Answer({"error": message, **more}, status, headers)


class Cut(Exception):
    """The connection is to end here."""


# The wire


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
            body = b"".join(self.read_body(fault.after_bytes))
            if fault.status:
                answer = Answer({"error": "the server has a fault"}, fault.status)
            else:
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                answer = self.server.answer(Request(self.command, url.path, query, self.headers, body))
            if fault.lost_answer:
                raise Cut
            self.send(answer, None if body else fault.after_bytes)
        except Cut:
            self.close_connection = True
            if fault.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def read_body(self, at_most: int | None) -> Iterator[bytes]:
        left = at_most if at_most is not None else sys.maxsize
        for size in self.body_sizes():
            while size:
                part = self.rfile.read(min(size, left, 1 << 16))
                if not part:
                    raise Cut
                size, left = size - len(part), left - len(part)
                yield part

    def body_sizes(self) -> Iterator[int]:
        """The lengths of a body's chunks, each to be read before the next is asked for."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield int(self.headers.get("Content-Length", 0))
            return
        while size := int(self.rfile.readline(), 16):
            yield size
            self.rfile.readline()
        self.rfile.readline()

    def send(self, answer: Answer, at_most: int | None) -> None:
        content = answer.content()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:at_most])
        if at_most is not None and at_most < len(content):
            raise Cut

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


# The Hub

KIND = r"(?P<kind>models|datasets|spaces)"
REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
PREFIX = r"(?:(?P<kind>datasets|spaces)/)?"
REVISION = r"(?P<revision>[^/]+)"


class HubServer(ThreadingHTTPServer):
    """A Hub of its own, with nobody and nothing in it.

    `tokens` are those who may log in, `repositories` what there is, by kind and name, `requests` the method and path of
    every request so far, `faults` what is to go wrong.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.tokens: dict[str, User] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.page_size = 1000
        self.connections: set[socket.socket] = set()
        self.lock = threading.RLock()
        self.routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/api/whoami-v2", self.whoami),
            ("GET", r"/api/agent-harnesses", lambda request: {"standardEnvVars": [], "harnesses": {}}),
            ("POST", r"/api/validate-yaml", self.validate_yaml),
            ("POST", r"/api/repos/create", self.create),
            ("DELETE", r"/api/repos/delete", self.delete),
            ("GET", rf"/api/{KIND}", self.listing),
            ("GET", rf"/api/{KIND}/{REPO}/revision/{REVISION}", self.info),
            ("GET", rf"/api/{KIND}/{REPO}/tree/{REVISION}(?:/(?P<path>.+))?", self.tree),
            ("POST", rf"/api/{KIND}/{REPO}/paths-info/{REVISION}", self.paths_info),
            ("POST", rf"/api/{KIND}/{REPO}/preupload/{REVISION}", self.preupload),
            ("POST", rf"/api/{KIND}/{REPO}/commit/{REVISION}", self.commit),
            ("GET", rf"/api/{KIND}/{REPO}/commits/{REVISION}", self.commits),
            ("GET", rf"/api/{KIND}/{REPO}/refs", self.refs),
            ("POST", rf"/api/{KIND}/{REPO}/branch/{REVISION}", self.create_branch),
            ("DELETE", rf"/api/{KIND}/{REPO}/branch/{REVISION}", self.delete_branch),
            ("POST", rf"/api/{KIND}/{REPO}/tag/{REVISION}", self.create_tag),
            ("DELETE", rf"/api/{KIND}/{REPO}/tag/{REVISION}", self.delete_tag),
            ("PUT", rf"/api/{KIND}/{REPO}/settings", self.settings),
            ("GET", rf"/api/{KIND}/{REPO}", self.info),
            ("POST", rf"/{PREFIX}{REPO}\.git/info/lfs/objects/batch", self.lfs_batch),
            ("PUT", rf"/lfs/{KIND}/{REPO}/(?P<oid>[0-9a-f]{{64}})", self.lfs_upload),
            ("POST", rf"/lfs/{KIND}/{REPO}/verify", self.lfs_verify),
            ("GET", rf"/{PREFIX}{REPO}/resolve/{REVISION}/(?P<path>.+)", self.resolve),
        ]

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Ends the server and its open connections: from then on the endpoint refuses."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

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
            for verb, pattern, handle in self.routes:
                if verb == method and (match := re.fullmatch(pattern, request.path)):
                    parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                    if "repo" in parts:
                        parts.setdefault("kind", "models")
                    with self.lock:
                        result = handle(request, **parts)
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

    # Who asks, and for what

    def user(self, request: Request) -> User | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        token = header.removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def writer(self, request: Request, owner: str | None = None) -> User:
        """Who asks, if they may write, to what `owner` has."""
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        if user.role != "write":
            raise Refusal(403, "You must use a token with the write role")
        if owner not in (None, user.name, *user.organizations):
            raise Refusal(403, f"You don't have the rights to write under the namespace {owner!r}")
        return user

    def repository(self, request: Request, kind: str, repo: str) -> Repository:
        """A repository that the one who asks may read."""
        user = self.user(request)
        found = self.repositories.get((kind, repo))
        if found and (not found.private or (user and found.owner in (user.name, *user.organizations))):
            return found
        # What is private is not told from what is not there.
        if user is None:
            raise Refusal(401, ANONYMOUS)
        raise Refusal(404, "Repository not found", "RepoNotFound")

    def own_repository(self, request: Request, kind: str, repo: str) -> Repository:
        """A repository that the one who asks may write."""
        found = self.repository(request, kind, repo)
        self.writer(request, found.owner)
        return found

    def url(self, repository: Repository) -> str:
        prefix = "" if repository.kind == "models" else f"{repository.kind}/"
        return f"{self.endpoint}/{prefix}{repository.id}"

    def page(self, request: Request, items: list[Any]) -> Answer:
        start = int(request.query.get("cursor", ["0"])[0])
        end = start + self.page_size
        headers = {}
        if end < len(items):
            rest = "".join(f"&{name}={quote(v)}" for name, vs in request.query.items() for v in vs if name != "cursor")
            headers["Link"] = f'<{self.endpoint}{request.path}?cursor={end}{rest}>; rel="next"'
        return Answer(items[start:end], headers=headers)

    # The Hub as a whole

    def whoami(self, request: Request) -> dict[str, Any]:
        user = self.user(request)
        if user is None:
            raise Refusal(401, ANONYMOUS)
        token = {"displayName": "test", "role": user.role}
        organizations = [{"type": "org", "name": name} for name in user.organizations]
        auth = {"type": "access_token", "accessToken": token}
        return {"type": "user", "name": user.name, "fullname": user.name, "orgs": organizations, "auth": auth}

    def validate_yaml(self, request: Request) -> Answer:
        content = request.json()["content"]
        errors = card_errors(content)
        if errors and request.headers.get("Accept") == "text/plain":
            return Answer("\n".join(errors).encode(), 400, {"Content-Type": "text/plain"})
        empty = not errors and card_data(content) is None
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
        return Answer(
            {"errors": [{"message": error} for error in errors], "warnings": warnings}, 400 if errors else 200
        )

    def named(self, request: Request) -> tuple[str, str, User]:
        """The kind and name of the repository that a request's body is about, and who asks."""
        body = request.json()
        user = self.writer(request)
        owner = body.get("organization") or user.name
        return f"{body.get('type') or 'model'}s", f"{owner}/{body['name']}", self.writer(request, owner)

    def create(self, request: Request) -> dict[str, Any]:
        kind, repo, user = self.named(request)
        body = request.json()
        if found := self.repositories.get((kind, repo)):
            raise Refusal(409, f"You already created this {kind[:-1]} repo", url=self.url(found), name=repo)
        private = bool(body.get("private")) or body.get("visibility") == "private"
        first = Commit({".gitattributes": Blob(ATTRIBUTES)}, "initial commit", author=user.name)
        made = self.repositories[kind, repo] = Repository(kind, repo, private, {"refs/heads/main": first})
        return {"url": self.url(made), "name": repo, "id": repo}

    def delete(self, request: Request) -> dict[str, Any]:
        kind, repo, _ = self.named(request)
        self.own_repository(request, kind, repo)
        del self.repositories[kind, repo]
        return {}

    def listing(self, request: Request, kind: str) -> Answer:
        author, search = (request.query.get(name, [""])[0] for name in ("author", "search"))
        found = []
        for of_kind, repo in sorted(self.repositories):
            with contextlib.suppress(Refusal):
                if of_kind == kind and author in ("", repo.split("/")[0]) and search.lower() in repo.lower():
                    self.repository(request, kind, repo)
                    found.append(self.info(request, kind, repo))
        return self.page(request, found)

    # One repository

    def info(self, request: Request, kind: str, repo: str, revision: str = "main") -> dict[str, Any]:
        repository = self.repository(request, kind, repo)
        commit = repository.commit(revision)
        card: Any = None
        if "README.md" in commit.files:
            with contextlib.suppress(yaml.YAMLError):
                card = card_data(commit.files["README.md"].content.decode())
        card = card if isinstance(card, dict) else {}
        made = {"adapter_config.json": "peft", "config.json": "transformers"}
        library = card.get("library_name") or next((made[name] for name in made if name in commit.files), None)
        tags = [library] if library else []
        tags += [tag for tag in card.get("tags") or [] if tag not in tags]
        tags += [f"license:{card['license']}"] if "license" in card else []
        siblings = []
        for entry in commit.entries():
            if entry["type"] == "file":
                siblings.append({"rfilename": entry["path"]})
                if request.flag("blobs"):
                    siblings[-1].update(size=entry["size"], blobId=entry["oid"])
                    if lfs := entry.get("lfs"):
                        siblings[-1]["lfs"] = {**lfs, "sha256": lfs["oid"]}
        return {
            "id": repo,
            "author": repository.owner,
            "sha": commit.oid,
            "private": repository.private,
            "gated": False,
            "tags": tags,
            "siblings": siblings,
            "lastModified": self.date(commit),
            "createdAt": self.date(list(commit.history())[-1]),
            **({"cardData": card} if card else {}),
            **({"library_name": library} if library else {}),
            **({"pipeline_tag": card["pipeline_tag"]} if "pipeline_tag" in card else {}),
            **({"model-index": card["model-index"]} if "model-index" in card else {}),
        }

    @staticmethod
    def date(commit: Commit) -> str:
        return commit.date.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def settings(self, request: Request, kind: str, repo: str) -> dict[str, Any]:
        repository = self.own_repository(request, kind, repo)
        body = request.json()
        private = body.get("private", {"private": True, "public": False}.get(body.get("visibility")))
        repository.private = repository.private if private is None else private
        return {"private": repository.private}

    def tree(self, request: Request, kind: str, repo: str, revision: str, path: str = "") -> Answer:
        commit = self.repository(request, kind, repo).commit(revision)
        entries = commit.entries(path.strip("/"), request.flag("recursive"))
        if path and not entries:
            raise Refusal(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
        return self.page(request, entries)

    def paths_info(self, request: Request, kind: str, repo: str, revision: str) -> list[dict[str, Any]]:
        commit = self.repository(request, kind, repo).commit(revision)
        paths = [path.strip("/") for path in parse_qs(request.body.decode()).get("paths", [])]
        return [entry for entry in commit.entries() if entry["path"] in paths]

    def resolve(self, request: Request, kind: str, repo: str, revision: str, path: str) -> Answer:
        commit = self.repository(request, kind, repo).commit(revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            refusal = Refusal(404, "Entry not found", "EntryNotFound")
            refusal.answer.headers |= headers
            raise refusal
        blob = commit.files[path]
        size = len(blob.content)
        headers |= {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not asked or asked.groups() == ("", ""):
            return Answer(blob.content, headers=headers)
        first, last = asked.groups()
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start >= end:
            return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
        return Answer(blob.content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})

    # Commits

    def preupload(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        repository = self.repository(request, kind, repo)
        self.writer(request, None if request.flag("create_pr") else repository.owner)
        files = repository.commit(revision).files
        modes = []
        for file in request.json()["files"]:
            path = file["path"]
            large = file["size"] > LFS_SIZE or PurePosixPath(path).suffix in LFS_SUFFIXES
            modes.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
            if path in files:
                modes[-1]["oid"] = files[path].etag
        return {"files": modes}

    def lfs_batch(self, request: Request, kind: str, repo: str) -> dict[str, Any]:
        repository = self.repository(request, kind, repo)
        self.writer(request)
        base = f"{self.endpoint}/lfs/{kind}/{repo}"
        objects = []
        for asked in request.json()["objects"]:
            objects.append({"oid": asked["oid"], "size": asked["size"]})
            if asked["oid"] not in repository.objects:
                actions = {"upload": {"href": f"{base}/{asked['oid']}"}, "verify": {"href": f"{base}/verify"}}
                objects[-1]["actions"] = actions
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, request: Request, kind: str, repo: str, oid: str) -> dict[str, Any]:
        # Without a token: the address alone is the permission, as with the Hub's storage.
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refusal(400, "The content is not that of the announced object")
        self.repositories[kind, repo].objects[oid] = request.body
        return {}

    def lfs_verify(self, request: Request, kind: str, repo: str) -> dict[str, Any]:
        body = request.json()
        content = self.repository(request, kind, repo).objects.get(body["oid"])
        if content is None or len(content) != body["size"]:
            raise Refusal(400, "The object is not stored, or has another size")
        return {}

    def commit(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        repository = self.repository(request, kind, repo)
        create_pr = request.flag("create_pr")
        user = self.writer(request, None if create_pr else repository.owner)
        ref = repository.ref(revision)
        if ref is None or ref.startswith("refs/tags/"):
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = repository.refs[ref]
        lines = [json.loads(line) for line in request.body.splitlines() if line]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, parent.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for line in lines[1:]:
            self.apply(repository, files, line["key"], line["value"])
        made = Commit(files, header["summary"], header.get("description", ""), user.name, parent)
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{self.url(repository)}/commit/{made.oid}"}
        if create_pr:
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.refs)
            ref = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.url(repository)}/discussions/{number}"
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
            gone = [name for name in files if name == path] if key == "deletedFile" else []
            gone = [name for name in files if name.startswith(f"{path}/")] if key == "deletedFolder" else gone
            if not gone:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]

    def commits(self, request: Request, kind: str, repo: str, revision: str) -> Answer:
        history = [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": self.date(commit),
            }
            for commit in self.repository(request, kind, repo).commit(revision).history()
        ]
        return self.page(request, history)

    # Branches and tags

    def refs(self, request: Request, kind: str, repo: str) -> dict[str, Any]:
        listed: dict[str, Any] = {"branches": [], "converts": [], "tags": []}
        if request.flag("include_prs"):
            listed["pullRequests"] = []
        kinds = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
        for ref, commit in self.repository(request, kind, repo).refs.items():
            _, place, name = ref.split("/", 2)
            if kinds[place] in listed:
                listed[kinds[place]].append({"name": name, "ref": ref, "targetCommit": commit.oid})
        return listed

    def add_ref(self, repository: Repository, name: str, revision: str) -> dict[str, Any]:
        if name in repository.refs:
            raise Refusal(409, f"Reference already exists: {name}")
        repository.refs[name] = repository.commit(revision)
        return {}

    def remove_ref(self, repository: Repository, name: str) -> dict[str, Any]:
        if repository.refs.pop(name, None) is None:
            raise Refusal(404, f"Reference does not exist: {name}", "RevisionNotFound")
        return {}

    def create_branch(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        start = request.json().get("startingPoint", "main")
        return self.add_ref(self.own_repository(request, kind, repo), f"refs/heads/{revision}", start)

    def delete_branch(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        return self.remove_ref(self.own_repository(request, kind, repo), f"refs/heads/{revision}")

    def create_tag(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        return self.add_ref(self.own_repository(request, kind, repo), f"refs/tags/{request.json()['tag']}", revision)

    def delete_tag(self, request: Request, kind: str, repo: str, revision: str) -> dict[str, Any]:
        return self.remove_ref(self.own_repository(request, kind, repo), f"refs/tags/{revision}")
