"""The agent with the capabilities of the manifest for Kubernetes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.command import run_command
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import MEMCG_LIMIT, cgroup_prefix, own_memcg
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

MANIFEST = REPOSITORY / "deploy/kubernetes/daemonset.yaml"


def test_the_agent_of_a_pod_reads_the_nodes_cgroups(tmp_path: Path) -> None:
    """As root with the manifest's capabilities only, in a cgroup namespace like a container's."""
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    _, daemons = documents
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    rights = container["securityContext"]["capabilities"]["add"]
    caps = ",".join(["-all", *(f"+{name.lower()}" for name in rights)])
    backend = Backend()
    with own_memcg(limit=1 << 30) as memcg, Receiver(backend) as receiver:
        prefix = (
            *(*cgroup_prefix(memcg), "unshare", "--cgroup", "--"),
            *("setpriv", f"--bounding-set={caps}", "--inh-caps=-all", "--no-new-privs", "--"),
        )
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "K8S_NODE_NAME": "node-1",
            "OTEL_RESOURCE_ATTRIBUTES": "host.name=node-1",
        }
        # Its files have the victim's limit: the cgroup stays until the kill is delivered.
        with own_memcg() as victims, run_agent(tmp_path, environ, prefix=prefix) as running:
            # It is ready for the service manager a moment earlier.
            wait_until(
                lambda: "capturing OOM kills by tp_btf/mark_victim" in running.log_text(),
                "its log line",
            )
            pid = kill_in(victims)
            backend.wait_for_kills([pid], within_s=30)
            # Its liveness probe, as the kubelet runs it: in the container, with its rights.
            _, *words = container["livenessProbe"]["exec"]["command"]
            command = [*prefix, sys.executable, "-m", "otel_oom", *words]
            done = run_command([*command, "--state-dir", running.state_dir])
            assert done.code == 0, done
    (log,) = filter_kills(backend.logs, [pid])
    assert log.attributes["oom.victim.memcg.limit"] == MEMCG_LIMIT
    assert log.attributes["process.executable.name"] == Path(os.path.realpath("/usr/bin/tail")).name
    assert log.resource["host.name"] == "node-1"
    assert log.resource["k8s.node.name"] == "node-1"
