"""Wait until the DaemonSet of the clean-up is ready on each node, then until its pods are gone.

`helm uninstall` runs this in a pod. Arguments: the DaemonSet's path in the API, and the seconds to
wait.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FOREGROUND = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
"""A deleted object stays until what it owns is gone."""


def main() -> int:
    """Poll the DaemonSet; return 1 if a node is left when the time is over."""
    path, limit_s = sys.argv[1], float(sys.argv[2])
    deadline = time.monotonic() + limit_s
    detail = "the API has not responded"
    nodes = None
    while time.monotonic() < deadline:
        try:
            daemons = call_api("GET", path)
            if nodes is None:
                ready, count = count_nodes(daemons)
                detail = f"nodes={count} ready={ready}"
                if ready == count:
                    call_api("DELETE", path, FOREGROUND)
                    nodes = count
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND and nodes is not None:
                print(f"Clean-up: done: nodes={nodes}")
                return 0
            detail = f"the API refused: {error}"
        except (OSError, ValueError) as error:
            detail = f"the API does not respond: {error}"
        time.sleep(0.3)
    if nodes is not None:
        print(f"Clean-up: done, and its pods still end: nodes={nodes}")
        return 0
    print(f"Clean-up: not done after {limit_s:.0f} s: {detail}.")
    print("Remove /sys/fs/bpf/otel-oom on each node that is left.")
    return 1


def count_nodes(daemons: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return the ready pods and the nodes of a DaemonSet; no nodes before they are counted."""
    status = daemons["status"]
    # Until the controller has observed it, both numbers are 0.
    if status.get("observedGeneration") != daemons["metadata"]["generation"]:
        return 0, None
    return status["numberReady"], status["desiredNumberScheduled"]


def call_api(method: str, path: str, body: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  JSON
    """Send a request as this pod's service account; return the object of the response."""
    host, port = (os.environ[f"KUBERNETES_SERVICE_{name}"] for name in ("HOST", "PORT"))
    address = f"[{host}]" if ":" in host else host
    token = (ACCOUNT / "token").read_text(encoding="utf-8")
    request = urllib.request.Request(
        f"https://{address}:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method=method,
    )
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    with urllib.request.urlopen(request, timeout=5, context=context) as response:  # noqa: S310  always https
        return json.load(response)


sys.exit(main())
