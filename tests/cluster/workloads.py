"""Objects of the API whose containers run the shell programs of the tests' image."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.testlib.containers.cri import IMAGE
from tests.testlib.containers.image import IDLE

Json = dict[str, Any]

MEBIBYTE: Final = 1 << 20


def container(name: str, program: str = IDLE, memory: str = "", **more: Any) -> Json:  # noqa: ANN401  its other fields
    """Return a container; ``memory`` is its own limit, without a request as high."""
    limit = {"limits": {"memory": memory}, "requests": {"memory": "1Mi"}} if memory else {}
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", program],
        "resources": limit,
        **more,
    }


def pod_spec(*containers: Json, **more: Any) -> Json:  # noqa: ANN401  its other fields
    """Return the spec of a pod whose programs need no time to end."""
    return {
        "containers": list(containers),
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        **more,
    }


def pod(namespace: str, name: str, *containers: Json, **more: Any) -> Json:  # noqa: ANN401  likewise
    """Return a pod that no workload owns, which stays ended once it has ended."""
    spec = pod_spec(*containers, restartPolicy="Never", **more)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(namespace, name), "spec": spec}


def workload(namespace: str, kind: str, name: str, spec: Json, **more: Any) -> Json:  # noqa: ANN401  likewise
    """Return a Deployment, DaemonSet or StatefulSet of pods with the label ``app``: its name."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": _meta(namespace, name),
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            **more,
        },
    }


def job(namespace: str, name: str, spec: Json) -> Json:
    """Return a Job that tries once."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _meta(namespace, name),
        "spec": _job_spec(name, spec),
    }


def cron_job(namespace: str, name: str, spec: Json) -> Json:
    """Return a CronJob that starts a Job at the next full minute, and no second one beside it."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _meta(namespace, name),
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": _job_spec(name, spec)},
        },
    }


def namespace(name: str) -> Json:
    """Return a namespace, in which pods may share the node's process ids."""
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def as_static_pod(manifest: Json) -> str:
    """Return the file of a static pod."""
    return json.dumps(manifest)  # JSON is YAML


def _job_spec(name: str, spec: Json) -> Json:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"restartPolicy": "Never", **spec}}
    return {"backoffLimit": 0, "template": template}


def _meta(namespace: str, name: str) -> Json:
    return {"name": name, "namespace": namespace, "labels": {"app": name}}
