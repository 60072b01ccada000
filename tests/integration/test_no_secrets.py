"""No secret of an endpoint, proxy or header leaves the process, however wrong the value is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.command import run_otel_oom
from tests.testlib.exporter import Outbox
from tests.testlib.process import free_port
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, HttpServer, Request, http_response
from tests.testlib.wait import wait_until

OTLP = "OTEL_EXPORTER_OTLP_"
SECRET = "s3cret"  # noqa: S105  made up
NO_METRICS = {"OTEL_METRICS_EXPORTER": "none"}

pytestmark = pytest.mark.slow

UNUSABLE = [
    "htp://collector/?api_key=s3cret",
    "https://collector:99999/s3cret/v1?api_key=s3cret#s3cret",
    "https://me:s3cret@collector:99999",
    "https://me:s3/cret/s3cret@collector:99999",
    "https://me:s3cret",
    "https:/collector?api_key=s3cret",
    "collector:4318?api_key=s3cret",
    "collector&api_key=s3cret",
    "https://collector:4318 api-key: s3cret",
    "https://collector/%s3cret ü",
    "https://[::1%s3cret",
]


@pytest.mark.parametrize("value", UNUSABLE)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_an_unusable_endpoint(protocol: str, value: str) -> None:
    """It is named, without what may be secret."""
    env = {f"{OTLP}PROTOCOL": protocol, f"{OTLP}ENDPOINT": value}
    done = run_otel_oom("doctor", env=NO_METRICS | env)
    assert f"{OTLP}ENDPOINT" in done.out
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "://me:s3cret@proxy"},
        {"http_proxy": "http://me:x/s3cret@proxy:port"},
        {"http_proxy": "me:s3cret@proxy:99999"},
        {"http_proxy": "http://me:s3cret@127.0.0.1:9"},
        {"http_proxy": "http://me:s3cret@" + "a" * 64},
        {f"{OTLP}TIMEOUT": "api_key=s3cret"},
        {f"{OTLP}PROTOCOL": "https://me:s3cret@collector"},
        {f"{OTLP}HEADERS": "api-key: s3cret"},
        {f"{OTLP}CERTIFICATE": "https://collector/ca?key=s3cret"},
    ],
)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_failing_endpoint(protocol: str, variables: Mapping[str, str]) -> None:
    """Neither a proxy, nor another variable, nor the libraries' own messages show one."""
    url = f"http://me:s3cret@127.0.0.1:{free_port()}/s3cret?api_key=s3cret#s3cret"
    env = {f"{OTLP}PROTOCOL": protocol, f"{OTLP}ENDPOINT": url}
    done = run_otel_oom("doctor", env={**NO_METRICS, **env, **variables})
    assert "✗" in done.out
    assert "Traceback" not in done.out + done.err
    assert SECRET not in done.out + done.err


def echo(request: Request) -> bytes:
    """Reject a request, and repeat all its secrets."""
    return http_response(400, f"{request.target} {request.headers}".encode())


@pytest.mark.usefixtures("real_kills")
def test_a_backend_that_echoes_its_request(tmp_path: Path) -> None:
    """Neither the agent's log nor the queue shows a secret."""
    outbox = Outbox(tmp_path / "state")
    outbox.enqueue("kill-1")
    outbox.close()
    with HttpServer(echo) as server:
        host = server.url.removeprefix("http://")
        url = f"http://me:s3cret@{host}/s3cret-1?api_key=s3cret"
        env = {
            f"{OTLP}ENDPOINT": url,
            f"{OTLP}LOGS_ENDPOINT": f"{url}#s3cret",
            f"{OTLP}LOGS_HEADERS": "authorization=Bearer s3cret-2,x-key=s3cret-3",
        }
        with run_agent(tmp_path, env) as agent:
            wait_until(lambda: "dead letters" in agent.log_text(), "it", limit=CLIENT_TIMEOUT_S)
            assert agent.stop() == 0
    assert "s3cret-1" in server.requests[0].target
    pages = [
        run_otel_oom("queue", *as_json, "--state-dir", tmp_path / "state")
        for as_json in ((), ("--json",))
    ]
    for text in (agent.log_text(), *(page.out + page.err for page in pages)):
        assert f"http://{host}" in text
        assert SECRET not in text
