"""A stand-in for Kubernetes' API server: Leases of one namespace, with real compare-and-set.

What it does as the real one: bearer tokens, `resourceVersion` of each object and each list, 409 for
a replacement of an older one and for a second creation, 404, selection by one label, and the checks
of a Lease's fields that a client could trip over. It has no watch, no other kinds, and no RBAC.
"""

from __future__ import annotations

import json
import re
import threading
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support import HOST

FOLDER = "/apis/coordination.k8s.io/v1/namespaces/synap/leases"
TOKEN = "a token of a service account"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

Lease = dict[str, Any]


class Refused(Exception):
    """An answer that is none of 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """The server, until it is left.

    Attributes:
        url: Its address.
        conflicts: How many replacements were refused.
        is_away: It answers 503.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._version = 1000
        self._lock = threading.Lock()
        self.conflicts = 0
        self.is_away = False
        self._http = ThreadingHTTPServer((HOST, 0), self._handler())
        self.url = f"http://{HOST}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def lease(self, name: str) -> Lease:
        """Return an object as it is."""
        with self._lock:
            return deepcopy(self._leases[name])

    def names(self) -> list[str]:
        """Return the objects' names."""
        with self._lock:
            return sorted(self._leases)

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, Lease]:
        """Carry out a request."""
        try:
            if self.is_away:
                raise Refused(503, "the server is currently unable to handle the request")
            if token != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized")
            with self._lock:
                return self._answer(method, target, body)
        except Refused as error:
            return error.status, {"kind": "Status", "code": error.status, "message": str(error)}

    def _answer(self, method: str, target: str, body: bytes) -> tuple[int, Lease]:
        parts = urlsplit(target)
        if not parts.path.startswith(FOLDER):
            raise Refused(404, "the server could not find the requested resource")
        name = unquote(parts.path.removeprefix(FOLDER)).strip("/")
        if method == "GET" and not name:
            return 200, self._listed(parse_qs(parts.query))
        if method == "POST":
            return 201, self._create(json.loads(body))
        if name not in self._leases:
            raise Refused(404, f'leases.coordination.k8s.io "{name}" not found')
        if method == "PUT":
            return 200, self._replace(name, json.loads(body))
        return 200, deepcopy(self._leases[name])

    def _listed(self, query: dict[str, list[str]]) -> Lease:
        label, _, value = query.get("labelSelector", [""])[0].partition("=")
        found = [
            each
            for each in self._leases.values()
            if not label or each["metadata"].get("labels", {}).get(label) == value
        ]
        kept = {"resourceVersion": str(self._version)}
        return {"kind": "LeaseList", "metadata": kept, "items": deepcopy(found)}

    def _create(self, lease: Lease) -> Lease:
        name = lease["metadata"]["name"]
        if not _NAME.fullmatch(name) or "resourceVersion" in lease["metadata"]:
            raise Refused(422, "metadata is invalid")
        if name in self._leases:
            raise Refused(409, f'leases.coordination.k8s.io "{name}" already exists')
        return self._keep(name, lease)

    def _replace(self, name: str, lease: Lease) -> Lease:
        version = lease["metadata"].get("resourceVersion")
        if version != self._leases[name]["metadata"]["resourceVersion"]:
            self.conflicts += 1
            raise Refused(409, "the object has been modified; please apply your changes")
        return self._keep(name, lease)

    def _keep(self, name: str, lease: Lease) -> Lease:
        spec = lease.get("spec", {})
        times = [spec[each] for each in ("acquireTime", "renewTime") if each in spec]
        is_valid = all(_TIME.fullmatch(each) for each in times)
        if not is_valid or spec.get("leaseDurationSeconds", 1) <= 0:
            raise Refused(422, f"spec is invalid: {spec}")
        self._version += 1
        lease["metadata"]["resourceVersion"] = str(self._version)
        lease["metadata"].setdefault("uid", f"uid-{self._version}")
        self._leases[name] = deepcopy(lease)
        return lease

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Tell nothing."""

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "")
                status, found = server.answer(self.command, self.path, token, body)
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        for method in ("GET", "PUT", "POST"):
            setattr(Handler, f"do_{method}", Handler._do)
        return Handler
