"""A client of the API server for the supervisor, without a process for each request."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from tests.cluster import plan
from tests.cluster.plan import ClusterFolder

_LIMIT_S = 10.0


class Api:
    """The API server, as its administrator."""

    def __init__(self, folder: ClusterFolder) -> None:
        """Use the administrator's certificate of the cluster in ``folder``."""
        files = folder.certificates
        self._context = ssl.create_default_context(cafile=str(files / "authority.pem"))
        self._context.load_cert_chain(files / "admin.pem", files / "admin.key")

    def get(self, path: str) -> Any | None:  # noqa: ANN401  what the API server returns
        """Return the object at ``path``; ``None`` if there is none, or no server yet."""
        connection = http.client.HTTPSConnection(
            plan.NODE_ADDRESS, plan.API_PORT, timeout=_LIMIT_S, context=self._context
        )
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except OSError:
            return None
        finally:
            connection.close()
        if response.status != http.client.OK:
            return None
        return json.loads(body) if body.startswith(b"{") else body.decode()

    def is_usable(self) -> bool:
        """Return True once pods can be scheduled on the node and run."""
        node = self.get(f"/api/v1/nodes/{plan.NODE}")
        if node is None or node["spec"].get("taints"):
            return False
        conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
        account = self.get("/api/v1/namespaces/default/serviceaccounts/default")
        return conditions.get("Ready") == "True" and account is not None

    def service_address(self, namespace: str, name: str) -> str | None:
        """Return the address of a Service; ``None`` if it has none."""
        service = self.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        address = service["spec"].get("clusterIP") if service else None
        return None if address == "None" else address
