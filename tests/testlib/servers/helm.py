"""Helm, and what it makes of the chart."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.servers.build import BuildError, build_binary

CHART: Final = REPOSITORY / "deploy/kubernetes/chart"
ENDPOINT: Final = "http://collector.example:4318"

Values = Mapping[str, object]
Object = dict[str, Any]
"""An object of Kubernetes."""


class HelmError(RuntimeError):
    """Helm refused; the text is its own."""


def helm_program() -> Path:
    """Return the path of Helm, which is built first unless it is in the cache.

    Raises:
        BuildError: it is not in the cache and cannot be built; says why.
    """
    return build_binary("helm")


def require_helm() -> None:
    """Skip the calling test, or fail it in CI, if Helm can't be built."""
    try:
        helm_program()
    except BuildError as error:
        require(condition=False, reason=str(error))


def render_chart(values: Values | None = None, *options: str) -> str:
    """Return the chart's manifest for these values, of a release ``otel-oom``.

    Without ``otlp`` among the values it sends to ENDPOINT.

    Raises:
        HelmError: the values are refused.
        BuildError: as :func:`helm_program`.
    """
    content = yaml.safe_dump({"otlp": {"endpoint": ENDPOINT}, **(values or {})})
    settings = ("--namespace=otel-oom", "--values=-", *options)
    return run_helm("template", "otel-oom", CHART, *settings, content=content)


def render_objects(values: Values | None = None, *options: str) -> list[Object]:
    """Return the objects of :func:`render_chart`."""
    documents = yaml.safe_load_all(render_chart(values, *options))
    return [document for document in documents if document is not None]


def find_object(objects: list[Object], kind: str, name: str = "otel-oom") -> Object:
    """Return the one object of ``kind`` with ``name``."""
    (match,) = (o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return match


def run_helm(*words: str | Path, content: str = "") -> str:
    """Run Helm with ``content`` as its input; return what it prints.

    Raises:
        HelmError: with what it printed, if it failed.
    """
    command = [helm_program(), *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, input=content
    )
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout
