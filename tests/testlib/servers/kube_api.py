"""That part of a Kubernetes API server that lists and watches pods.

A real one needs etcd and a cluster. The pods are Kubernetes' own objects, in its own format of
a list.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.testlib.process import LOOPBACK
from tests.testlib.servers.web import Json


@contextmanager
def run_kube_api(pods: Sequence[Json], folder: Path) -> Iterator[Path]:
    """Serve these pods and nothing else; yield a kubeconfig in ``folder``."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        """Lists, and watches in which nothing ever happens."""

        def do_GET(self) -> None:
            """Answer one request."""
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if "sendInitialEvents" in query:
                # Of a server that is older than this form of a watch: the client lists then.
                self._answer(422, {"kind": "Status", "status": "Failure", "code": 422})
            elif "watch" in query:
                self.send_response(200)
                self.end_headers()
                ended.wait()
            elif url.path == "/api/v1/pods":
                metadata = {"resourceVersion": "1"}
                self._answer(
                    200,
                    {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods},
                )
            else:
                self._answer(403, {"kind": "Status", "status": "Failure", "code": 403})

        def _answer(self, status: int, body: Json) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        config = folder / "kubeconfig"
        cluster = {"server": f"http://{LOOPBACK}:{server.server_port}"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": ""}}],
            "current-context": "test",
        }
        config.write_text(json.dumps(content), encoding="utf-8")
        try:
            yield config
        finally:
            ended.set()
            server.shutdown()
            thread.join()
