"""Settings of the container runtime, the network plug-ins, the kubelet and the proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from tests.cluster import plan
from tests.cluster.plan import ClusterFolder
from tests.testlib.containers.cri import PAUSE

PLUGINS: Final = "/usr/lib/cni"
"""Folder of the network plug-ins of Debian's containernetworking-plugins."""

SYSCTLS: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Kernel settings that the kubelet demands: it finds files of the cluster in their place."""


def write_settings(folder: ClusterFolder) -> None:
    """Write the configuration files of all components."""
    (folder.path / "containerd.toml").write_text(
        _CONTAINERD.format(
            folder=folder.path,
            root=plan.ROOT_FOLDER,
            state=plan.STATE_FOLDER,
            socket=folder.socket,
            pause=PAUSE,
            address=plan.NODE_ADDRESS,
            port=plan.STREAM_PORT,
            plugins=PLUGINS,
            snapshotter=choose_snapshotter(folder),
        ),
        encoding="ascii",
    )
    network = folder.path / "network"
    network.mkdir()
    _write_json(folder, "network/10-pods.conflist", _network(folder))
    _write_json(folder, "kubelet.json", _kubelet(folder))
    _write_json(folder, "proxy.json", _proxy(folder))


def choose_snapshotter(folder: ClusterFolder) -> str:
    """Return the name of containerd's fastest snapshotter that works in the cluster's folder."""
    folders = [folder.path / "overlay" / name for name in ("lower", "upper", "work", "merged")]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    lower, upper, work, merged = folders
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    # In a container the folder may itself be on an overlay, which cannot be the upper folder.
    tried = ("unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, merged)
    return (
        "native"
        if subprocess.run(tried, check=False, capture_output=True).returncode
        else "overlayfs"
    )


def _write_json(folder: ClusterFolder, name: str, content: Mapping[str, Any]) -> None:
    (folder.path / name).write_text(json.dumps(content), encoding="ascii")


# Without CAP_SYS_RESOURCE, which containers of CI seldom have, runc cannot lower an
# oom_score_adj; `restrict_oom_score_adj` leaves it as it is.
_CONTAINERD: Final = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
restrict_oom_score_adj = true
sandbox_image = "{pause}"
stream_server_address = "{address}"
stream_server_port = "{port}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folder}/network"
"""


def _network(folder: ClusterFolder) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(folder.path / "addresses"),
        "ranges": [[{"subnet": plan.POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{**bridge, "ipam": addresses}]}


def _kubelet(folder: ClusterFolder) -> dict[str, Any]:
    nothing = dict.fromkeys(
        (
            "memory.available",
            *("nodefs.available", "nodefs.inodesFree"),
            *("imagefs.available", "imagefs.inodesFree"),
        ),
        "0%",
    )
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": plan.NODE_ADDRESS,
        "port": plan.KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(folder.certificates / "authority.pem")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{folder.socket}",
        "clusterDNS": [plan.NODE_ADDRESS],
        "clusterDomain": plan.DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": folder.cgroup,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": True,
        "makeIPTablesUtilChains": False,
        # A full disk or little memory of this machine is nothing to evict pods for.
        "evictionHard": nothing,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": str(folder.path / "volume-plugins"),
        "maxPods": 100,
        "oomScoreAdj": 0,
        "registerNode": True,
        "staticPodPath": str(folder.static_pods),
        "fileCheckFrequency": "1s",
        "syncFrequency": "10s",
    }


def _proxy(folder: ClusterFolder) -> dict[str, Any]:
    return {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {"kubeconfig": str(folder.kubeconfig("proxy"))},
        "clusterCIDR": plan.POD_RANGE,
        "hostnameOverride": plan.NODE,
        "mode": "iptables",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # These settings of the kernel belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
