"""A hub of models in this process: the part of the Hugging Face Hub's protocol that uploads and downloads need."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = {"hf_write": "write", "hf_read": "read"}


@dataclass
class Repository:
    """``commits``: number → files by name; ``branches``: name → number of the commit."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = {**self.files(branch), **files} if branch in self.branches else dict(files)
        return self.replace(branch, content)

    def replace(self, branch: str, content: dict[str, bytes]) -> str:
        text = repr((len(self.commits), sorted(content.items())))
        number = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[number] = content
        self.branches[branch] = number
        return number

    def number(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        number = self.number(revision)
        assert number is not None
        return self.commits[number]


class Hub:
    """``breaks``: the number of bytes after which the next download loses its connection; None for no break.

    ``large``: names of files that take the way of large files (LFS). ``requests``: method, path and range of each.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.breaks: int | None = None
        self.large: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def add(self, name: str, files: dict[str, bytes], **settings: bool) -> Repository:
        found = self.repositories[name] = Repository(**settings)
        found.commit("main", files)
        return found

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    @property
    def right(self) -> str | None:
        return TOKENS.get(self.headers.get("authorization", "").removeprefix("Bearer "))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str = "", text: str = "") -> None:
        headers = {**({"X_Error_Code": code} if code else {}), **({"X_Error_Message": text} if text else {})}
        self.answer(status, json.dumps({"error": text or code}).encode(), **headers)

    def tell(self, content: Any) -> None:
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def read(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def visible(self, name: str) -> Repository | None:
        """The repository, or None after a refusal."""
        found = self.hub.repositories.get(name)
        token = self.headers.get("authorization")
        if token and self.right is None:
            self.refuse(401, text="Invalid credentials in Authorization header")
        elif found is None or (found.private and self.right is None):
            self.refuse(401, "RepoNotFound", "Repository not found")
        else:
            return found
        return None

    def note(self) -> str:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(path), self.headers.get("range", "")))
        return path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.note()
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*map(unquote, found.groups()))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self.describe(found[1], found[2], unquote(found[3] or "main"))
        else:
            self.refuse(404, text=path)

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.visible(name)
        if repository is None:
            return
        if repository.gated:
            self.refuse(403, "GatedRepo")
        elif (number := repository.number(revision)) is None:
            self.refuse(404, "RevisionNotFound")
        elif file not in repository.commits[number]:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=number)
        else:
            self.send(repository.commits[number][file], number)

    def send(self, data: bytes, number: str) -> None:
        known = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X_Repo_Commit": number, "Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if asked:
            start = int(asked[1])
            part = data[start : int(asked[2]) + 1 if asked[2] else None]
            self.answer(206, part, Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}", **known)
        elif self.command == "GET" and self.hub.breaks is not None:
            size, self.hub.breaks = self.hub.breaks, None
            self.answer(200, data[:size], Content_Length=str(len(data)), **known)
            self.wfile.flush()
            self.close_connection = True
        else:
            self.answer(200, data, **known)

    def describe(self, name: str, what: str | None, revision: str) -> None:
        repository = self.visible(name)
        if repository is None:
            return
        number = repository.number(revision)
        if number is None:
            self.refuse(404, "RevisionNotFound")
            return
        files = repository.commits[number]
        if what == "tree":
            self.tell([{"type": "file", "path": n, "size": len(data), "oid": "0" * 40} for n, data in files.items()])
            return
        siblings = [{"rfilename": file} for file in files]
        self.tell({"id": name, "private": repository.private, "sha": number, "siblings": siblings, "tags": []})

    def do_POST(self) -> None:
        path, body = self.note(), self.read()
        if path == "/api/validate-yaml":
            self.tell({"errors": [], "warnings": []})
        elif self.right != "write":
            self.refuse(403 if self.right else 401, text="You need a token with the right to write")
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch)/([^/]+)", path):
            getattr(self, found[2])(found[1], unquote(found[3]), body)
        else:
            self.refuse(404, text=path)

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            body = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            self.answer(409, json.dumps(body).encode())
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.add(name, {".gitattributes": b"*.transpike filter=lfs\n"}, private=private)
        self.tell({"url": f"{self.hub.url}/{name}", "name": name})

    def preupload(self, name: str, revision: str, body: bytes) -> None:
        files = json.loads(body)["files"]
        modes = {file["path"]: "lfs" if file["path"] in self.hub.large else "regular" for file in files}
        self.tell({"files": [{"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in modes.items()]})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self.answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def do_PUT(self) -> None:
        path = self.note()
        self.hub.objects[path.rpartition("/")[2]] = self.read()
        self.answer(200)

    def commit(self, name: str, revision: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        content = dict(repository.files(revision))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                content[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del content[value["path"]]
        number = repository.replace(revision, content)
        self.tell({"commitUrl": f"{self.hub.url}/{name}/commit/{number}", "commitOid": number})

    def branch(self, name: str, revision: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        if revision in repository.branches:
            self.refuse(409, text="Reference already exists")
        else:
            repository.branches[revision] = repository.branches["main"]
            self.tell({})
