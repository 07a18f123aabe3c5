"""A hub of our own on 127.0.0.1: as much of the Hugging Face API as its client asks for."""

import base64
import hashlib
import http.server
import json
import threading
from urllib.parse import urlparse

COMMIT = "0" * 39 + "1"


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory: `repositories[name][file]` are bytes.

    Models lie on another host, as large files do. With a `token`, others are refused.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = {}
        self.token = None
        self.timeout = 10
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10

    def log_message(self, *_):
        pass

    def is_refused(self):
        """Whether the token that comes is not the one that is needed, and that was answered."""
        needed = self.server.token
        refused = needed is not None and self.headers.get("Authorization") != f"Bearer {needed}"
        if refused:
            self.answer({"error": "Invalid username or password."}, 401)
        return refused

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.is_refused():
            return
        parts = urlparse(self.path).path.strip("/").split("/")
        known = self.server.repositories
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'ann'}/{asked['name']}"
            known.setdefault(name, {})
            self.answer({"url": f"{self.server.url}/{name}", "id": name})
        elif parts == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        else:
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    known[name][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server.url}/{name}/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_GET(self):
        parts = urlparse(self.path).path.strip("/").split("/")
        stored = parts[0] == "stored"  # where no token is sent to
        if not stored and self.is_refused():
            return
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[stored:][:2])
        files = self.server.repositories.get(name)
        if files is None:
            self.answer({"error": "no such repository"}, 404, X_Error_Code="RepoNotFound")
        elif parts[0] != "api":
            content = files[parts[-1]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            headers = {"ETag": etag, "X_Repo_Commit": COMMIT}
            if parts[-1] != "model.keras" or stored:
                self.answer(content, **headers)
                return
            other = f"http://localhost:{self.server.server_address[1]}/stored/{name}/{parts[-1]}"
            size = {"X_Linked_ETag": etag, "X_Linked_Size": len(content)}
            self.answer(b"", 302, Location=other, **headers, **size)
        elif parts[4:5] == ["revision"] and parts[5] not in ("main", COMMIT):
            self.answer({"error": "no such revision"}, 404, X_Error_Code="RevisionNotFound")
        elif "tree" in parts:
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": COMMIT}
                for path, content in files.items()
            ]
            self.answer(listed)
        else:
            siblings = [{"rfilename": path} for path in files]
            self.answer({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})

    do_HEAD = do_GET
