"""Certificates of a test's own, made by the `openssl` command."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.require import require

_MAKE = ("openssl", "req", "-x509", "-config", "openssl.cnf")
_CONFIG = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:FALSE
subjectAltName = ${ENV::NAMES}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, as files in PEM form."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Create it in ``folder``."""
        require(shutil.which("openssl"), "certificates are made by the openssl command")
        folder.mkdir()
        self._folder = folder
        (folder / "openssl.cnf").write_text(_CONFIG, encoding="ascii")
        self._own = self._make("authority", "authority")

    @property
    def certificate(self) -> Path:
        """Return the certificate that clients and servers trust."""
        return self._own.certificate

    def issue(
        self, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost", subject: str = ""
    ) -> Identity:
        """Issue a certificate for ``hosts``, of a server or a client; files have its ``name``."""
        signer = ("-CA", str(self._own.certificate), "-CAkey", str(self._own.key))
        return self._make(name, "leaf", *signer, hosts=hosts, subject=subject)

    def _make(
        self, name: str, kind: str, *signer: str, hosts: str = "", subject: str = ""
    ) -> Identity:
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        # An elliptic curve's key takes milliseconds.
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        files = ("-keyout", str(identity.key), "-out", str(identity.certificate))
        own = ("-subj", subject or f"/CN={name} of a test", "-days", "2", "-extensions", kind)
        subprocess.run(
            [*_MAKE, *curve, *files, *own, *signer],
            cwd=self._folder,
            env={**os.environ, "NAMES": hosts},
            check=True,
            capture_output=True,
            timeout=60,
        )
        return identity


def make_server_context(own: Identity, clients: Authority | None = None) -> ssl.SSLContext:
    """Return TLS for a server with a certificate; ``clients`` must have issued the client's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context
