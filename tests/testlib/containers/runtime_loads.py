"""Programs of real runtimes in containers of podman, each with a load that its settings decide.

A load keeps a part of the limit in use and replaces it again and again. A collector that thinks it
has more memory than the limit lets the rest grow until the kernel ends it. One that knows the limit
finishes the same load.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from tests.testlib.containers.podman import Podman
from tests.testlib.debian.roots import debian_root
from tests.testlib.servers.recipes import build_go_program

_SUITE: Final = "trixie"
_PACKAGES: Final = ("libbsh-java", "nodejs", "openjdk-21-jre-headless")
_LIMIT_S: Final = 240

SECRET: Final = "hunter2"  # noqa: S105  stands for one

_JAVA: Final = """
byte[][] ring = new byte[220][];
for (int i = 0; i < 2000; i++) ring[i % 220] = new byte[1 << 20];
print("done");
"""
_JAVASCRIPT: Final = """
const ring = [];
for (let i = 0; i < 1200; i++) ring[i % 240] = new Array(65536).fill(i + 0.5);
console.log("done", ring.length);
"""
_GO: Final = """
package main

import "fmt"

func main() {
	ring := make([][]byte, 280)
	for i := 0; i < 2000; i++ {
		chunk := make([]byte, 1<<20)
		for n := 0; n < len(chunk); n++ {
			chunk[n] = 1
		}
		ring[i%len(ring)] = chunk
	}
	fmt.Println("done", ring[7][0])
}
"""


class Load(NamedTuple):
    """A program with a limit in MiB, and its settings that do not fit.

    ``setting`` is the wrong one, ``size`` what it allows. ``command`` has those of the command line
    at ``{}``; ``environ`` is by variables.
    """

    runtime: str
    setting: str
    size: str
    limit_mib: int
    command: tuple[str, ...]
    settings: tuple[str, ...] = ()
    environ: tuple[str, ...] = ()

    def with_setting(self, setting: str) -> Load:
        """Return the load with another setting in place of its own."""
        if self.settings:
            return self._replace(settings=(setting,))
        name = setting.partition("=")[0]
        others = (variable for variable in self.environ if not variable.startswith(f"{name}="))
        return self._replace(environ=(*others, setting))


JVM: Final = Load(
    "OpenJDK Runtime Environment",
    "-Xmx512m",
    "512.0 MiB",
    512,
    ("java", "{}", f"-Dpassword={SECRET}", "-cp", "/usr/share/java/bsh.jar",
     "bsh.Interpreter", "/load/load.bsh", f"--token={SECRET}"),
    ("-Xmx512m",),
    (f"JAVA_TOOL_OPTIONS=-Dkey={SECRET} -Xss1m",),
)  # fmt: skip
NODEJS: Final = Load(
    "nodejs",
    "--max-old-space-size=512",
    "512.0 MiB",
    256,
    ("node", "{}", "/load/load.js", f"--token={SECRET}"),
    ("--max-old-space-size=512",),
    (f"NODE_OPTIONS=--conditions={SECRET}",),
)
GO: Final = Load(
    "go",
    "GOMEMLIMIT=1GiB",
    "1.0 GiB",
    512,
    ("/load/load", f"--token={SECRET}"),
    (),
    ("GOMEMLIMIT=1GiB", "GOGC=100"),
)


def prepare_loads(folder: Path) -> None:
    """Write the programs to ``folder``, which containers see as ``/load``, and read the runtimes.

    Cached file pages count for the cgroup that reads them first. Were it the container's, the
    kernel would drop and read the code of the runtime again for minutes, and kill after that.
    """
    for file in (_root() / "usr/lib").rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.read_bytes()
    (folder / "load.bsh").write_text(_JAVA, encoding="ascii")
    (folder / "load.js").write_text(_JAVASCRIPT, encoding="ascii")
    build_go_program(_GO, folder / "load")


def run_load(podman: Podman, name: str, load: Load, folder: Path) -> tuple[int, str]:
    """Run a load in a container to its end; return its exit code and what it printed."""
    words: list[str] = []
    for word in load.command:
        words += load.settings if word == "{}" else [word]
    podman.podman(
        *("run", "--detach", f"--name={name}", "--network=none"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
        f"--memory={load.limit_mib}m",
        *(f"--env={variable}" for variable in (*load.environ, f"PASSWORD={SECRET}")),
        f"--volume={folder}:/load:ro",
        *("--rootfs", f"{_root()}:O", *words),
    )
    code = int(podman.podman("wait", name, limit_s=_LIMIT_S))
    return code, podman.logs(name)


def _root() -> Path:
    return debian_root(_SUITE, *_PACKAGES)
