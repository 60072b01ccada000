"""The chart of Helm: what its values make of it, and which are refused."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mixin.source.__main__ import build_files
from otel_oom.config.metrics import read_metrics_config
from scripts import generate_manifest
from tests.testlib.process import LOOPBACK
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.helm import (
    CHART,
    HelmError,
    Object,
    find_object,
    render_chart,
    render_objects,
    require_helm,
    run_helm,
)

pytestmark = pytest.mark.servers

PLATFORMS = yaml.safe_load((CHART / "platforms.yaml").read_text(encoding="utf-8"))
CAPABILITIES = ["BPF", "PERFMON", "SYSLOG", "SYS_PTRACE", "DAC_READ_SEARCH"]
GATEWAY = {"enabled": True, "backend": {"endpoint": "https://backend.example"}}
EVERYTHING = {
    "cleanup": {"state": True},
    "criticalPodsQuota": True,
    "gateway": {**GATEWAY, "networkPolicy": {"enabled": True}},
    "metrics": {"prometheus": {"enabled": True}},
    "namespace": {"create": True},
    "networkPolicy": {"enabled": True},
    "podEvents": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "userspaceDaemons": True,
}


@pytest.fixture(scope="module", autouse=True)
def helm() -> None:
    require_helm()


def pod_of(objects: list[Object], kind: str = "DaemonSet", name: str = "otel-oom") -> Any:  # noqa: ANN401  YAML
    return find_object(objects, kind, name)["spec"]["template"]["spec"]


def containers_of(objects: list[Object]) -> Iterator[Object]:
    for each in objects:
        pod = each.get("spec", {}).get("template", {}).get("spec", {})
        yield from pod.get("initContainers", [])
        yield from pod.get("containers", [])


def environ_of(container: Object) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def host_paths(pod: Object) -> dict[str, str]:
    volumes = (volume for volume in pod["volumes"] if "hostPath" in volume)
    return {volume["hostPath"]["path"]: volume["hostPath"]["type"] for volume in volumes}


def test_the_plain_manifest_is_that_of_the_chart() -> None:
    manifest = generate_manifest.MANIFEST.read_text(encoding="utf-8")
    assert manifest == generate_manifest.generate(), "run make manifests"


def test_lint_has_no_objection() -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", CHART)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"otlp": {}}, "Set otlp.endpoint"),
        ({"gateway": {"enabled": True}}, "Set gateway.backend.endpoint"),
        ({"podMonitor": {"enabled": True}}, "podMonitor.enabled needs gateway.enabled or"),
        ({"platform": "windows"}, "'/platform'"),
        ({"endpoint": "http://collector"}, "additional properties 'endpoint' not allowed"),
        ({"otlp": {"endpoint": 4318}}, "'/otlp/endpoint'"),
        # A clean-up removes it from the folder above.
        ({"statePath": "/state"}, "'/statePath'"),
        ({"statePath": "relative"}, "'/statePath'"),
        # Two pods of a node can't hold the same pins.
        ({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}, "'/updateStrategy"),
    ],
)
def test_refused_values(values: Object, reason: str) -> None:
    with pytest.raises(HelmError) as refusal:
        render_chart(values)
    assert reason in str(refusal.value)


def test_unknown_keys_are_refused_at_every_level() -> None:
    """Of values with keys of their own; labels, headers and Kubernetes' objects have any."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    groups = 0

    def check(node: Object, value: Object) -> None:
        nonlocal groups
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        if "properties" not in node:
            return
        groups += 1
        assert node["additionalProperties"] is False, node
        assert value.keys() <= node["properties"].keys()
        for key, each in value.items():
            check(node["properties"][key], each)

    check(schema, values)
    assert groups > 20
    assert schema["properties"]["platform"]["enum"] == list(PLATFORMS)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_rights_on_each_platform(platform: str) -> None:
    """Five capabilities for what captures and unpins, none for anything else."""
    objects = render_objects({"platform": platform, **EVERYTHING})
    names = {}
    for container in containers_of(objects):
        context = container["securityContext"]
        names[container["name"]] = context["capabilities"].get("add")
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        if context.get("runAsUser") != 0:
            assert context["runAsNonRoot"]
            # OpenShift refuses a user that is not of the namespace's range.
            assert ("runAsUser" in context) == (platform != "openshift")
    assert names == {
        **dict.fromkeys(("otel-oom", "unpin"), CAPABILITIES),
        **dict.fromkeys(("done", "wait", "collector")),
    }
    sharing = [each for each in objects if "hostPID" in str(each.get("spec"))]
    assert [each["metadata"]["name"] for each in sharing] == ["otel-oom"]


@pytest.mark.parametrize(
    ("platform", "state", "root"),
    [
        ("generic", "/run/containerd", "/var/lib/containerd"),
        ("k3s", "/run/k3s/containerd", "/var/lib/rancher/k3s/agent/containerd"),
        ("rke2", "/run/k3s/containerd", "/var/lib/rancher/rke2/agent/containerd"),
        (
            "microk8s",
            "/var/snap/microk8s/common/run/containerd",
            "/var/snap/microk8s/common/var/lib/containerd",
        ),
        ("k0s", "/run/k0s/containerd", "/var/lib/k0s/containerd"),
    ],
)
def test_the_runtimes_folders_of_a_platform(platform: str, state: str, root: str) -> None:
    """They are where the agent looks for them by default, with CRI-O's beside them."""
    pod = pod_of(render_objects({"platform": platform}))
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert volumes["containerd"] == f"{state}/io.containerd.runtime.v2.task"
    records = "io.containerd.metadata.v1.bolt"
    assert volumes["containerd-records"] == f"{root}/{records}"
    assert mounts["containerd-records"]["mountPath"] == f"/var/lib/containerd/{records}"
    assert mounts["containerd-records"]["readOnly"]
    assert mounts["containerd"]["mountPath"] == "/run/containerd/io.containerd.runtime.v2.task"
    assert volumes["crio"] == mounts["crio"]["mountPath"]
    # Else the file systems of containers that ended would stay mounted in the agent's pod.
    assert mounts["containerd"]["mountPropagation"] == "HostToContainer"


def test_no_mount_leaves_the_pod_waiting_on_an_unusual_node() -> None:
    """One without BTF, tracefs, machine-id(5) or os-release(5)."""
    required = {
        path for path, kind in host_paths(pod_of(render_objects())).items() if "Or" not in kind
    }
    assert required == {"/sys/fs/bpf", "/sys/fs/cgroup"}
    daemons = host_paths(pod_of(render_objects({"userspaceDaemons": True})))
    # journald keeps its journal there as soon as it exists.
    assert "/var/log/journal" not in daemons
    assert daemons["/var/log"] == "Directory"


def test_selinux_quota_and_constraints_of_a_platform() -> None:
    openshift = render_objects({"platform": "openshift"})
    context = pod_of(openshift)["containers"][0]["securityContext"]
    assert context["seLinuxOptions"] == {"type": "spc_t"}
    constraints = find_object(openshift, "SecurityContextConstraints", "otel-oom-otel-oom")
    assert constraints["users"] == ["system:serviceaccount:otel-oom:otel-oom"]
    assert constraints["allowedCapabilities"] == CAPABILITIES
    assert constraints["allowPrivilegedContainer"] is False
    quota = find_object(render_objects({"platform": "gke"}), "ResourceQuota")
    (scope,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert scope["values"] == ["system-node-critical"]
    # A value has precedence over the platform.
    off = {
        "openshift": {"scc": False},
        "criticalPodsQuota": False,
        "seLinuxOptions": {"type": "x_t"},
    }
    kinds = {each["kind"]: each for each in render_objects({"platform": "openshift", **off})}
    assert not {"ResourceQuota", "SecurityContextConstraints"} & kinds.keys()
    overridden = kinds["DaemonSet"]["spec"]["template"]["spec"]
    for container in overridden["containers"]:
        assert container["securityContext"].get("seLinuxOptions") in ({"type": "x_t"}, None)


@pytest.mark.parametrize(
    ("profile", "annotation"),
    [
        ({"type": "Unconfined"}, "unconfined"),
        ({"type": "RuntimeDefault"}, "runtime/default"),
        ({"type": "Localhost", "localhostProfile": "otel-oom"}, "localhost/otel-oom"),
    ],
)
def test_apparmor_profile_before_and_since_kubernetes_1_30(
    profile: Object, annotation: str
) -> None:
    """Older API servers refuse the field, and newer ones warn of the annotation."""
    key = "container.apparmor.security.beta.kubernetes.io/otel-oom"
    for version, has_field in (("1.29.9", False), ("1.30.0", True)):
        objects = render_objects({"appArmorProfile": profile}, f"--kube-version={version}")
        template = find_object(objects, "DaemonSet")["spec"]["template"]
        context = template["spec"]["containers"][0]["securityContext"]
        assert context.get("appArmorProfile") == (profile if has_field else None)
        assert template["metadata"]["annotations"].get(key) == (None if has_field else annotation)


def test_headers_are_in_a_secret_as_otlp_encodes_them() -> None:
    """Percent-encoded, as in W3C Baggage."""
    objects = render_objects(
        {"otlp": {"endpoint": "http://b", "headers": {"api-key": "a b,c=1+2"}}}
    )
    secret = find_object(objects, "Secret", "otel-oom-headers")
    (container,) = pod_of(objects)["containers"]
    reference = environ_of(container)["OTEL_EXPORTER_OTLP_HEADERS"]["secretKeyRef"]
    assert reference["name"] == secret["metadata"]["name"]
    assert secret["stringData"][reference["key"]] == "api-key=a%20b%2Cc%3D1%2B2"
    assert "a b,c" not in str(find_object(objects, "DaemonSet"))


def test_headers_of_an_existing_secret() -> None:
    own = {"name": "mine", "key": "headers"}
    objects = render_objects({"otlp": {"endpoint": "http://b", "headersSecret": own}})
    assert "Secret" not in {each["kind"] for each in objects}
    (container,) = pod_of(objects)["containers"]
    assert environ_of(container)["OTEL_EXPORTER_OTLP_HEADERS"] == {"secretKeyRef": own}


def test_certificates_of_a_secret() -> None:
    tls = {"name": "tls", "certificate": "tls.crt", "key": "tls.key"}
    pod = pod_of(render_objects({"otlp": {"endpoint": "https://b", "tlsSecret": tls}}))
    (container,) = pod["containers"]
    environ = environ_of(container)
    folder = next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "tls")
    assert environ["OTEL_EXPORTER_OTLP_CERTIFICATE"] == f"{folder}/ca.crt"
    assert environ["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] == f"{folder}/tls.crt"
    assert environ["OTEL_EXPORTER_OTLP_CLIENT_KEY"] == f"{folder}/tls.key"
    assert {"name": "tls", "secret": {"secretName": "tls"}} in pod["volumes"]


def test_resource_attributes_join_the_name_of_the_node() -> None:
    values = {"resourceAttributes": {"k8s.cluster.name": "blue, east"}}
    (container,) = pod_of(render_objects(values))["containers"]
    attributes = environ_of(container)["OTEL_RESOURCE_ATTRIBUTES"]
    assert attributes == "host.name=$(K8S_NODE_NAME),k8s.cluster.name=blue%2C%20east"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector:4318", 4318),
        ("http://$(NODE_IP):4318", 4318),
        ("http://[fd00::1]:4318", 4318),
        ("https://backend.example/otlp", 443),
        ("http://b", 80),
        ("collector:4317", 4317),
    ],
)
def test_the_network_policy_allows_dns_and_the_destination(endpoint: str, port: int) -> None:
    values = {"otlp": {"endpoint": endpoint}, "networkPolicy": {"enabled": True}}
    policy = find_object(render_objects(values), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    ports = [each["port"] for rule in policy["egress"] for each in rule["ports"]]
    assert ports == [53, 53, port]


def test_pod_events_add_one_right_and_its_way_to_the_api() -> None:
    """By default the agent has no token, no right, and no reason to connect."""
    off = render_objects({"networkPolicy": {"enabled": True}})
    assert pod_of(off)["automountServiceAccountToken"] is False
    assert "ClusterRole" not in {each["kind"] for each in off}
    on = render_objects({"networkPolicy": {"enabled": True}, "podEvents": {"enabled": True}})
    pod = pod_of(on)
    assert pod["automountServiceAccountToken"] is True
    assert environ_of(pod["containers"][0])["OTEL_OOM_KUBERNETES_EVENTS"] == "true"
    name = "otel-oom-otel-oom-pod-events"
    role, binding = (find_object(on, f"ClusterRole{kind}", name) for kind in ("", "Binding"))
    assert role["rules"] == [
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert subject["name"] == pod["serviceAccountName"]
    policy = find_object(on, "NetworkPolicy")["spec"]
    assert {443, 6443} <= {port["port"] for rule in policy["egress"] for port in rule["ports"]}


def test_the_clean_up_runs_only_after_the_release() -> None:
    """And nothing of it stays: each of its objects is a hook that Helm deletes."""
    cleanup = [o for o in render_objects() if o["metadata"]["name"] == "otel-oom-cleanup"]
    kinds = sorted(
        (int(each["metadata"]["annotations"]["helm.sh/hook-weight"]), each["kind"])
        for each in cleanup
    )
    assert kinds == [
        *((0, kind) for kind in ("Role", "RoleBinding", "ServiceAccount")),
        (1, "DaemonSet"),
        (2, "Job"),
    ]
    for each in cleanup:
        annotations = each["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-delete"
        assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
            *("before-hook-creation", "hook-succeeded", "hook-failed")
        }
    assert not [
        each
        for each in render_objects({"cleanup": {"enabled": False}})
        if each["metadata"]["name"] == "otel-oom-cleanup"
    ]


def test_the_wait_for_the_clean_up_is_bounded() -> None:
    """Where the API or a node does not respond, `helm uninstall` fails with what to do."""
    (wait,) = pod_of(render_objects(), "Job", "otel-oom-cleanup")["containers"]
    interpreter, option, program, path, limit_s = wait["command"]
    assert (interpreter, limit_s) == ("python3", "120")
    assert path == "/apis/apps/v1/namespaces/otel-oom/daemonsets/otel-oom-cleanup"
    environ = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": "1"}
    done = subprocess.run(
        [sys.executable, option, program, path, "0.1"],
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert "not done" in done.stdout
    assert "Remove /sys/fs/bpf/otel-oom" in done.stdout


def test_the_state_is_removed_only_where_that_is_requested() -> None:
    kept = pod_of(render_objects(), name="otel-oom-cleanup")
    assert host_paths(kept).keys() == {"/sys/fs/bpf"}
    values = {"cleanup": {"state": True}, "statePath": "/srv/data/oom-state"}
    removed = pod_of(render_objects(values), name="otel-oom-cleanup")
    assert host_paths(removed).keys() == {"/sys/fs/bpf", "/srv/data"}
    (unpin,) = removed["initContainers"]
    assert "rm -rf '/parent/oom-state'" in unpin["command"][-1]


def test_agents_send_to_the_gateway_by_default() -> None:
    objects = render_objects({"otlp": {}, "gateway": GATEWAY})
    service = find_object(objects, "Service", "otel-oom-gateway")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    (container,) = pod_of(objects)["containers"]
    expected = f"http://otel-oom-gateway.otel-oom.svc:{ports['otlp-http']}"
    assert environ_of(container)["OTEL_EXPORTER_OTLP_ENDPOINT"] == expected
    labels = find_object(objects, "Deployment", "otel-oom-gateway")["spec"]["template"]["metadata"]
    assert service["spec"]["selector"].items() <= labels["labels"].items()
    agents = find_object(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= agents.items()


def test_the_gateway_reads_pods_and_nothing_else() -> None:
    objects = render_objects({"gateway": GATEWAY})
    role = find_object(objects, "ClusterRole", "otel-oom-otel-oom-gateway")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    binding = find_object(objects, "ClusterRoleBinding", "otel-oom-otel-oom-gateway")
    (subject,) = binding["subjects"]
    account = pod_of(objects, "Deployment", "otel-oom-gateway")["serviceAccountName"]
    assert (subject["name"], binding["roleRef"]["name"]) == (account, role["metadata"]["name"])


def test_the_pod_monitor_finds_the_gateways_ports() -> None:
    objects = render_objects({"gateway": GATEWAY, "podMonitor": {"enabled": True}})
    monitor = find_object(objects, "PodMonitor", "otel-oom-gateway")["spec"]
    deployment = find_object(objects, "Deployment", "otel-oom-gateway")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= deployment["metadata"]["labels"].items()
    (collector,) = deployment["spec"]["containers"]
    names = {port["name"] for port in collector["ports"]}
    assert {each["port"] for each in monitor["podMetricsEndpoints"]} <= names


def test_the_alerts_are_those_of_the_mixin() -> None:
    """With the address of one's own copy of the runbook, and the labels by which they are found."""
    own = {"enabled": True, "labels": {"release": "kps"}, "runbook": "https://wiki.example/oom"}
    found = find_object(render_objects({"prometheusRule": own}), "PrometheusRule", "otel-oom")
    assert found["metadata"]["labels"]["release"] == "kps"
    text = build_files("https://wiki.example/oom")["rules/prometheus.yaml"]
    assert found["spec"] == yaml.safe_load(text)
    assert all(each["kind"] != "PrometheusRule" for each in render_objects({}))


def test_the_command_of_the_mixin_gives_the_operator_metrics_and_alerts() -> None:
    """With the chart's own values, and the labels by which the operator finds both."""
    page = (REPOSITORY / "mixin/README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"(?ms)^helm upgrade .*?^```", page)
    settings = re.findall(r"--set \S+", command)
    words = [word for setting in settings for word in shlex.split(setting)]
    objects = render_objects({"gateway": GATEWAY}, *words)
    for kind, name in (("PodMonitor", "otel-oom-gateway"), ("PrometheusRule", "otel-oom")):
        labels = find_object(objects, kind, name)["metadata"]["labels"]
        assert labels["release"] == "kube-prometheus-stack"
    (agent,) = pod_of(objects)["containers"]
    assert "k8s.cluster.name=eu-1" in environ_of(agent)["OTEL_RESOURCE_ATTRIBUTES"]
    plain = ["--set", "metrics.prometheus.enabled=true"]
    find_object(render_objects({}, *words, *plain), "PodMonitor", "otel-oom")


@pytest.mark.parametrize("page", ["mixin/runbook.md", "docs/kubernetes.md"])
def test_the_agent_of_a_node_is_found_by_its_labels(page: str) -> None:
    """Those that the pages select by, and no pod of the gateway."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    (selector,) = re.findall(r"-l (\S+) \\\n +--field-selector spec.nodeName=NODE", text)
    wanted = dict(pair.split("=") for pair in selector.split(","))
    objects = render_objects({"gateway": GATEWAY})
    agent = find_object(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    gateway = find_object(objects, "Deployment", "otel-oom-gateway")["spec"]["template"]
    assert wanted.items() <= agent.items()
    assert not wanted.items() <= gateway["metadata"]["labels"].items()


def test_prometheus_scrapes_the_agents_where_asked_for() -> None:
    """On the pod's own address, from the peers that the policy names."""
    peers = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]
    values = {
        "metrics": {"prometheus": {"enabled": True, "port": 9999, "from": peers}},
        "networkPolicy": {"enabled": True},
        "podMonitor": {"enabled": True},
    }
    objects = render_objects(values)
    (agent,) = pod_of(objects)["containers"]
    environ = environ_of(agent)
    assert agent["ports"] == [{"name": "metrics", "containerPort": 9999}]
    assert environ["OTEL_METRICS_EXPORTER"] == "prometheus"
    assert environ["OTEL_EXPORTER_PROMETHEUS_HOST"] == "$(POD_IP)"
    assert environ["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    config = read_metrics_config({k: v for k, v in environ.items() if isinstance(v, str)})
    assert config
    assert config.scrape_address
    assert config.scrape_address.port == 9999
    monitor = find_object(objects, "PodMonitor", "otel-oom")["spec"]
    labels = find_object(objects, "DaemonSet", "otel-oom")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert [each["port"] for each in monitor["podMetricsEndpoints"]] == ["metrics"]
    policy = find_object(objects, "NetworkPolicy", "otel-oom")["spec"]
    assert policy["ingress"] == [{"ports": [{"port": 9999}], "from": peers}]
    plain = find_object(
        render_objects({"networkPolicy": {"enabled": True}}), "NetworkPolicy", "otel-oom"
    )
    assert "ingress" not in plain["spec"]
