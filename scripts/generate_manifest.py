"""Write deploy/kubernetes/otel-oom.yaml, the manifest for those without Helm (`make manifests`)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.testlib.servers.helm import render_chart  # noqa: E402  the path comes first

MANIFEST: Final = ROOT / "deploy/kubernetes/otel-oom.yaml"
_ENDPOINT: Final = "http://otel-collector.otel-oom.svc:4318"
_HEAD: Final = """\
# otel-oom on every node of a cluster, with no more rights than it needs.
#
#     kubectl apply -f otel-oom.yaml
#
# Made of the chart beside it by `make manifests`. Replace the image by yours, and the endpoint by
# that of your backend or Collector: docs/kubernetes.md.
"""
_OF_HELM: Final = re.compile(
    r"(?m)^(?:# Source: .*| *(?:helm\.sh/chart|app\.kubernetes\.io/managed-by): .*|)\n"
)


def generate() -> str:
    """Return the manifest of the chart's default values."""
    values = {"otlp": {"endpoint": _ENDPOINT}, "namespace": {"create": True}}
    return _HEAD + _OF_HELM.sub("", render_chart(values, "--no-hooks"))


if __name__ == "__main__":
    MANIFEST.write_text(generate(), encoding="utf-8")
