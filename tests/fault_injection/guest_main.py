"""The agent with its store on a disk, a backend and kills, in a guest whose power is cut.

    python -m tests.fault_injection.guest_main FOLDER

It never ends by itself. Each file in FOLDER is on the disk of the machine around the guest at once:
the agent's log, each request before the backend accepts it, and each death.
"""

from __future__ import annotations

import http.server
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from tests.fault_injection.guest_files import AGENT_LOG, DEATHS, FAILED, REQUESTS
from tests.testlib.kernel.memcg import own_memcg
from tests.vmtest.programs import fill_cgroup

_DISK: Final = "/dev/vda"
_MOUNT: Final = Path("/mnt")
_EVERY_S: Final = 0.2
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC | os.O_CLOEXEC


def main(folder: Path) -> None:
    """Start all, and kill until the power is cut."""
    # Only the guest's shell is protected.
    Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    for module in ("virtio_blk", "ext4"):
        subprocess.run(["modprobe", module], check=True)
    subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True)
    subprocess.run(["mount", _DISK, _MOUNT], check=True)
    (folder / REQUESTS).mkdir(exist_ok=True)
    with _server(folder) as server, own_memcg() as memcg:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _start_agent(folder, server.server_address[1])
        deaths = os.open(folder / DEATHS, _APPEND)
        while True:
            began = time.time_ns()
            pid = fill_cgroup(memcg)
            os.write(deaths, f"{pid} {began} {time.time_ns()}\n".encode())
            time.sleep(_EVERY_S)


def _start_agent(folder: Path, port: int) -> None:
    log = os.open(folder / AGENT_LOG, _APPEND)
    subprocess.Popen(
        [
            *(sys.executable, "-B", "-m", "otel_oom", "run"),
            *("--state-dir", str(_MOUNT / "state"), "--no-pin", "--no-history"),
        ],
        env={
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_METRICS_EXPORTER": "none",
        },
        stdin=subprocess.DEVNULL,
        stderr=log,
    )
    os.close(log)


def _server(folder: Path) -> http.server.ThreadingHTTPServer:
    numbers = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = f"{time.time_ns()}-{next(numbers)}{self.path.replace('/', '-')}"
            unfinished = folder / REQUESTS / f".{name}"
            file = os.open(unfinished, _APPEND)
            os.write(file, body)
            os.fsync(file)
            os.close(file)
            unfinished.rename(folder / REQUESTS / name)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:
        (Path(sys.argv[1]) / FAILED).write_text(repr(error), encoding="utf-8")
        raise
