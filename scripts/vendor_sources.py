"""Fetch the sources of the libbpf that a wheel contains into native/vendor, checked by hash.

They are those of libbpf, libelf and zlib in a crate, which cargo fetches; nothing is built here.
Does nothing where they are already there: a source distribution carries them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CRATE: Final = "libbpf-sys"
VERSION: Final = "1.7.0"
SHA256: Final = "a109478760b2900aa2a6f2087e9d0de1d9c535b1758602af2845d5d2ccfaed7c"
"""Hash of the crate's file. native/NOTICE has the versions of the three."""

VENDOR: Final = Path(__file__).parents[1] / "native/vendor"
STAMP: Final = "SHA256"
PARTS: Final = {
    "libbpf": ("src/*.[ch]", "include/**/*.h", "LICENSE*"),
    "elfutils": ("libelf/*.[ch]", "lib/*.[ch]", "COPYING*", "AUTHORS", "README"),
    "zlib": ("*.[ch]", "LICENSE", "README"),
}
"""What is compiled, and the licences that go with it."""
MANIFEST: Final = f"""\
[package]
name = "sources"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[dependencies]
{CRATE} = {{ version = "={VERSION}", default-features = false }}
"""


class VendorError(RuntimeError):
    """The sources cannot be fetched."""


def vendor_sources(vendor: Path = VENDOR) -> None:
    """Fill the folder with the sources, unless it has them.

    Raises:
        VendorError: cargo is missing or failed, or the crate has another hash.
    """
    stamp = vendor / STAMP
    if stamp.is_file() and stamp.read_text(encoding="ascii").strip() == SHA256:
        return
    with tempfile.TemporaryDirectory() as name:
        crate = _fetch_crate(Path(name))
        shutil.rmtree(vendor, ignore_errors=True)
        for part, patterns in PARTS.items():
            for pattern in patterns:
                for source in filter(Path.is_file, (crate / part).glob(pattern)):
                    copy = vendor / source.relative_to(crate)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, copy)
    stamp.write_text(f"{SHA256}\n", encoding="ascii")


def _fetch_crate(folder: Path) -> Path:
    (folder / "Cargo.toml").write_text(MANIFEST, encoding="ascii")
    (folder / "lib.rs").touch()
    try:
        done = subprocess.run(
            ["cargo", "vendor", "--quiet", "crates"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise VendorError(
            "The sources of libbpf need cargo 1.85 or later: apt-get install cargo (Debian 13), "
            "cargo-web (Debian 12), dnf install cargo (Fedora)."
        ) from None
    crate = folder / "crates" / CRATE
    if done.returncode != 0:
        raise VendorError(f"cargo could not fetch {CRATE} {VERSION}: {done.stderr.strip()}")
    checksum = json.loads((crate / ".cargo-checksum.json").read_text(encoding="utf-8"))["package"]
    if checksum != SHA256:
        raise VendorError(f"{CRATE} {VERSION} has the SHA-256 {checksum}, not the pinned {SHA256}.")
    return crate


if __name__ == "__main__":
    try:
        vendor_sources()
    except VendorError as error:
        sys.exit(str(error))
