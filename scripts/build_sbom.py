"""Write the bill of materials of a release as CycloneDX JSON: `make sbom`.

cyclonedx-py lists the pinned Python packages, with licences and dependencies, in an environment of
their own. The libraries in C that a wheel contains come from native/NOTICE.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from otel_oom import __version__
from scripts import vendor_sources

REPOSITORY: Final = Path(__file__).parents[1]
NOTICE: Final = REPOSITORY / "native/NOTICE"
SPECIFICATION: Final = "1.6"
NAME: Final = f"otel-oom-{__version__}.cdx.json"

Document = dict[str, Any]

_SUPPLIERS: Final = {"libbpf": "libbpf", "elfutils": "elfutils_project", "zlib": "zlib"}
"""The vendor of each library in the names of the CPE dictionary."""
_LIBRARY: Final = re.compile(r"(?m)^- (?:libelf of )?(\w+) ([\d.]+), under the ([\w. -]+)")
_LICENCE: Final = re.compile(r"[A-Z]\w+(?:-[\w.]+)*")


def main() -> int:
    """Write the document into the folder of the wheels."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    folder: Path = parser.parse_args().into
    (wheel,) = folder.glob("otel_oom-*_x86_64.whl")
    sys.stdout.write(f"{build_sbom(wheel.absolute(), folder)}\n")
    return 0


def build_sbom(wheel: Path, folder: Path) -> Path:
    """Write the document of the wheel with its pinned packages; return its path.

    Raises:
        subprocess.CalledProcessError: pip or cyclonedx-py failed.
    """
    with tempfile.TemporaryDirectory() as name:
        environment, listed = Path(name, "environment"), Path(name, "listed.json")
        _run("venv", "--without-pip", environment)
        pip = ("pip", "--python", environment, "install", "--quiet", "--no-compile", "--no-deps")
        _run(*pip, "--require-hashes", "-r", REPOSITORY / "requirements.txt")
        _run(*pip, "--no-index", wheel)
        options = ("--output-reproducible", f"--sv={SPECIFICATION}", f"--output-file={listed}")
        project = f"--pyproject={REPOSITORY / 'pyproject.toml'}"
        _run("cyclonedx_py", "environment", project, *options, environment)
        document: Document = json.loads(listed.read_text(encoding="utf-8"))
    add_libraries(document)
    target = folder / NAME
    target.write_text(f"{json.dumps(document, indent=2)}\n", encoding="utf-8")
    return target


def add_libraries(document: Document) -> None:
    """Add the libraries in C as components on which the wheel depends."""
    libraries = list(list_libraries())
    document["components"].extend(libraries)
    root = document["metadata"]["component"]
    root["version"] = __version__
    references = [library["bom-ref"] for library in libraries]
    (own,) = (each for each in document["dependencies"] if each["ref"] == root["bom-ref"])
    own["dependsOn"] = sorted([*own.get("dependsOn", ()), *references])
    document["dependencies"].extend({"ref": reference} for reference in references)


def list_libraries() -> Iterator[Document]:
    """Yield a component for each library of native/NOTICE."""
    text = NOTICE.read_text(encoding="utf-8")
    for name, version, licences in _LIBRARY.findall(text):
        url = f"pkg:cargo/{vendor_sources.CRATE}@{vendor_sources.VERSION}"
        yield {
            "bom-ref": f"{name}=={version}",
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:generic/{name}@{version}",
            "cpe": f"cpe:2.3:a:{_SUPPLIERS[name]}:{name}:{version}:*:*:*:*:*:*:*",
            "licenses": [{"expression": " OR ".join(_LICENCE.findall(licences))}],
            "externalReferences": [
                {
                    "type": "source-distribution",
                    "url": url,
                    "hashes": [{"alg": "SHA-256", "content": vendor_sources.SHA256}],
                }
            ],
        }


def _run(module: str, *words: str | Path) -> None:
    subprocess.run((sys.executable, "-m", module, *words), stdout=sys.stderr, check=True)


if __name__ == "__main__":
    sys.exit(main())
