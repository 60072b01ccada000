"""Builds of static binaries from pinned versions of modules.

Nothing that upstream publishes is repeated here: a project's `replace` and `exclude` lines and
its checksums come from its own module, which is downloaded at build time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Pins = Mapping[str, Any]
"""One table of versions.toml."""

FLAGS = ("-trimpath", "-ldflags", "-s -w")
"""Flags of `go build`; the Collector's builder has the same defaults."""
SOURCES = Path(__file__).parent
"""Folder of the programs that are written here."""
LIMIT = 3600.0
"""Seconds a build may take."""


class BuildError(RuntimeError):
    """A part cannot be built."""


def require_go(wanted: Path) -> None:
    """Raise BuildError with advice if there is no Go to build the wanted file with."""
    if shutil.which("go", path=_path()) is None:
        raise BuildError(
            f"{wanted.name} is not built yet and Go is not on PATH: install Go 1.21 or newer "
            f"(it fetches a later one by itself where a source asks for it), "
            f"or put the binary at {wanted}"
        )


def published(pins: Pins, folder: Path) -> Path:
    """Build a command of a published module as its own project would, in `folder`.

    `go install module@version` refuses a module with `replace` lines. Here the module is the
    main one: compiled where Go has unpacked it, with copies of its go.mod and go.sum.

    Raises:
        BuildError: with the end of what Go printed.
    """
    source = _source(pins, folder)
    for name in ("go.mod", "go.sum"):
        (folder / name).write_bytes((source / name).read_bytes())
    # A replacement by a relative folder is a module of the same repository, which is not part
    # of what was published: its own published version, named by the same go.mod, serves.
    local = [
        replace["Old"]["Path"]
        for replace in json.loads(_go(["mod", "edit", "-json"], folder)).get("Replace") or ()
        if "Version" not in replace["New"]
    ]
    if local:
        _go(["mod", "edit", *(f"-dropreplace={path}" for path in local)], folder)
    mode = "mod" if local else "readonly"  # what is dropped needs a checksum of its own
    binary = folder / "binary"
    modfile = folder / "go.mod"
    flags = [f"-mod={mode}", f"-modfile={modfile}", *FLAGS, "-o", str(binary)]
    tags = ["-tags", ",".join(pins["tags"])] if "tags" in pins else []
    _go(["-C", str(source), "build", *flags, *tags, pins["package"]], folder)
    return binary


def local(pins: Pins, folder: Path) -> Path:
    """Build the Go program in a folder beside this file, as its go.mod and go.sum say.

    Its thousands of packages would fill the user's build cache with some gigabytes for one
    program: the cache is in `folder`, and ends with it.

    Raises:
        BuildError: with the end of what Go printed.
    """
    binary = folder / "binary"
    trim, linker, strip = FLAGS
    values = " ".join(f"-X {name}={value}" for name, value in pins.get("variables", {}).items())
    flags = ["-mod=readonly", trim, linker, f"{strip} {values}", "-o", str(binary)]
    source = ["-C", str(SOURCES / pins["folder"])]
    _go([*source, "build", *flags, "."], folder, GOCACHE=str(folder / "cache"))
    return binary


def build_go_program(source: str, target: Path) -> None:
    """Build a program of one file, without modules, at ``target``.

    Raises:
        BuildError: with the end of what Go printed.
    """
    require_go(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".go-") as folder:
        (Path(folder) / "main.go").write_text(source, encoding="ascii")
        _go(["build", *FLAGS, "-o", str(target), "main.go"], Path(folder))


def compiled(pins: Pins, folder: Path) -> Path:
    """Compile a C program of a published module in `folder`.

    Raises:
        BuildError: with the output of the compiler.
    """
    sources = sorted((_source(pins, folder) / pins["sources"]).glob("*.c"))
    binary = folder / "binary"
    command = ["clang", "-std=c99", "-Os", "-static", "-o", binary, *sources]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode:
        raise BuildError(f"`{' '.join(map(str, command))}` failed:\n{done.stderr}")
    return binary


def _source(pins: Pins, folder: Path) -> Path:
    """Return the folder in which Go has unpacked a published module."""
    wanted = f"{pins['module']}@{pins['version']}"
    return Path(json.loads(_go(["mod", "download", "-json", wanted], folder))["Dir"])


def collector(pins: Pins, folder: Path) -> Path:
    """Build a Collector of the pinned components in `folder`, with OpenTelemetry's builder.

    Raises:
        BuildError: with the end of what the builder printed.
    """
    manifest = folder / "builder.yaml"
    manifest.write_text(json.dumps(_manifest(pins)), encoding="utf-8")  # JSON is YAML
    builder = f"{pins['core']}/cmd/builder@{pins['version']}"
    _go(["run", builder, "--config", str(manifest)], folder)
    return folder / "out" / "otelcol"


def _manifest(pins: Pins) -> dict[str, Any]:
    def gomod(kind: str, component: str) -> dict[str, str]:
        path, _, own_version = component.partition("@")
        home, _, rest = path.partition("/")
        version = pins["provider_version" if kind == "providers" else "version"]
        return {"gomod": f"{pins[home]}/{rest} {own_version or version}"}

    return {
        "dist": {
            "name": "otelcol",
            "module": "otelcol.invalid/tests",
            "description": "OpenTelemetry Collector for the tests of otel-oom",
            "version": str(pins["version"]).removeprefix("v"),
            "output_path": "out",
        },
        **{
            kind: [gomod(kind, path) for path in paths]
            for kind, paths in pins["components"].items()
        },
    }


def _path() -> str:
    """Return PATH, and after it this interpreter's folder: a package may have put Go there."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])


def _go(arguments: Sequence[str], folder: Path, **variables: str) -> str:
    """Run Go in `folder` with these variables; return its standard output."""
    temporary = folder / "tmp"  # not the folder itself: Go ignores a go.mod in $TMPDIR
    temporary.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": _path(),
        "TMPDIR": str(temporary),  # so that an interrupted build leaves nothing elsewhere
        "CGO_ENABLED": "0",
        "GOWORK": "off",
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -buildvcs=false".strip(),
        **variables,
    }
    log = folder / "go.log"
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            ["go", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            process_group=0,
        )
    try:
        output, _ = child.communicate(timeout=LIMIT)
    except BaseException:  # also Ctrl-C: Go's own children must not go on without it
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if child.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        raise BuildError(f"`go {' '.join(arguments)}` failed with {child.returncode}:\n{tail}")
    return output
