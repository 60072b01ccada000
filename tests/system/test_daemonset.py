"""The agent with the capabilities of the manifest for Kubernetes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

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

MANIFEST = REPOSITORY / "deploy/kubernetes/otel-oom.yaml"


def agent_container() -> dict[str, Any]:
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    (daemons,) = (document for document in documents if document["kind"] == "DaemonSet")
    container: dict[str, Any]
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    return container


def test_the_agent_of_a_pod_reads_the_nodes_cgroups(tmp_path: Path) -> None:
    """As root with the manifest's capabilities only, in a cgroup namespace like a container's."""
    container = agent_container()
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


NAME_THE_NODE = """
from otel_oom.enrich.host import host_attributes
print(host_attributes()["os.name"])
"""


@pytest.mark.parametrize("dropped", [None, "sys_ptrace"])
def test_the_agent_of_a_pod_names_the_node_and_not_its_image(
    dropped: str | None, tmp_path: Path
) -> None:
    """By init's root directory; without the capability for that, by what its own has."""
    release = tmp_path / "os-release"
    release.write_text("NAME=Image\n", encoding="utf-8")
    rights = [name.lower() for name in agent_container()["securityContext"]["capabilities"]["add"]]
    caps = ",".join(["-all", *(f"+{name}" for name in rights if name != dropped)])
    # An init of its own, as a node has one: not every sandbox lets its own be read.
    init = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "init")
    mount = 'mount --bind "$0" /etc/os-release; exec "$@"'
    image = ("unshare", "--mount", "sh", "-ec", mount, str(release))
    setpriv = ("setpriv", f"--bounding-set={caps}", "--inh-caps=-all", "--no-new-privs", "--")
    name_it = (sys.executable, "-c", NAME_THE_NODE)
    node = run_command([*init, *name_it])
    pod = run_command([*init, *image, *setpriv, *name_it])
    assert pod.out == ("Image\n" if dropped else node.out), pod
    assert node.out.strip() in Path("/etc/os-release").read_text(encoding="utf-8")
