"""Events on the pods of victims, with an API server that fails as a real one seldom does."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.config.endpoint import JSON, Endpoint
from otel_oom.config.pod_events import PodEvents
from otel_oom.export import parking
from otel_oom.export.exporter import SignalExporter
from otel_oom.export.pod_events import PodEventTransport
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.model.snapshot import Container
from otel_oom.otlp.encode import encode_log
from otel_oom.store import OutboxEntry
from tests.testlib.exporter import Outbox, run_exporter
from tests.testlib.samples.events import sample_enriched_kill
from tests.testlib.samples.pod_kills import POD_UID, daemon_kill_log, pod_kill, pod_kill_log
from tests.testlib.servers.http_server import (
    Answer,
    HttpServer,
    Request,
    http_response,
    silent_server,
)
from tests.testlib.wait import wait_until

CREATED = http_response(201, b'{"kind":"Event"}')
PATH = "/apis/events.k8s.io/v1/namespaces/shop/events"
MINUTE_S = 60.0


class Clock:
    """A clock that stands still until it is set forward."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def exporter_config(url: str, folder: Path, timeout_s: float = 10.0) -> PodEvents:
    token = folder / "token"
    token.write_text("first\n", encoding="ascii")
    return PodEvents(Endpoint("logs", JSON, url, timeout_s=timeout_s), token, "node-1")


@contextmanager
def run_transport(
    folder: Path, answer: Answer = lambda _: CREATED, clock: Clock | None = None
) -> Iterator[tuple[PodEventTransport, HttpServer]]:
    with (
        HttpServer(answer) as server,
        closing(
            PodEventTransport(exporter_config(server.url, folder), clock or Clock())
        ) as transport,
    ):
        yield transport, server


def events_of(server: HttpServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests]


def status_response(code: int, **status: object) -> bytes:
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, **status})
    return http_response(code, body.encode())


def test_the_event_names_the_pod_the_container_and_the_limit(tmp_path: Path) -> None:
    kill = pod_kill()
    with run_transport(tmp_path) as (transport, server):
        assert transport.send(encode_log(kill)).result is ExportResult.ACCEPTED
        (request,) = server.requests
    assert request.target == PATH
    assert request.headers["authorization"] == "Bearer first"
    event = json.loads(request.body)
    assert event.pop("note") == (
        "java (pid 4711 of the node), 53.0 MiB of memory, limit above the pod 64.0 MiB."
    )
    time = datetime.fromisoformat(event.pop("eventTime"))
    assert abs(time - datetime.now(UTC)) < timedelta(minutes=1)
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"web-7d4b9.{kill.event.uid.replace('-', '')}",
            "namespace": "shop",
        },
        "type": "Warning",
        "reason": "OOMKilled",
        "action": "OOMKill",
        "reportingController": "otel-oom",
        "reportingInstance": "node-1",
        "regarding": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-7d4b9",
            "uid": POD_UID,
            "fieldPath": "spec.containers{php}",
        },
    }


def test_a_pod_has_one_event_a_minute_which_counts_the_others(tmp_path: Path) -> None:
    """The next kill waits for the minute, and later ones are counted with it."""
    clock = Clock()
    logs = [pod_kill_log(number) for number in range(5)]
    second = pod_kill(1).event.uid
    with run_transport(tmp_path, clock=clock) as (transport, server):
        response = transport.send(b"".join(logs[:3]))
        assert response.deferred_s == {second: MINUTE_S}
        clock.now_s += 30
        # Kills that are sent again are counted once.
        assert transport.send(b"".join(logs)).deferred_s == {second: MINUTE_S / 2}
        assert len(server.requests) == 1
        clock.now_s += 30
        assert transport.send(logs[1]).deferred_s == {}
        assert transport.send(b"".join(logs)).deferred_s == {}
        first, next_ = events_of(server)
    assert "series" not in first
    assert next_["note"].endswith(" 3 more in this pod followed.")
    assert next_["series"]["count"] == 4
    assert next_["series"]["lastObservedTime"] > next_["eventTime"]


def test_other_pods_do_not_wait_for_one_in_a_loop_of_kills(tmp_path: Path) -> None:
    with run_transport(tmp_path) as (transport, server):
        transport.send(b"".join(pod_kill_log(number) for number in range(20)))
        other = pod_kill_log(20, pod_name="db-0", pod_uid="other")
        assert transport.send(other).deferred_s == {}
        names = [event["regarding"]["name"] for event in events_of(server)]
    assert names == ["web-7d4b9", "db-0"]


def test_many_pods_at_once_are_ten_events_and_then_one_a_second(tmp_path: Path) -> None:
    clock = Clock()
    kills = {f"pod-{n}": pod_kill(n, pod_name=f"pod-{n}", pod_uid=f"{n}") for n in range(13)}
    body = b"".join(map(encode_log, kills.values()))
    with run_transport(tmp_path, clock=clock) as (transport, server):
        waits_s = transport.send(body).deferred_s
        assert len(server.requests) == 10
        assert list(waits_s.values()) == [1.0, 2.0, 3.0]
        clock.now_s += 3
        assert transport.send(body).deferred_s == {}
        names = [event["regarding"]["name"] for event in events_of(server)]
    assert names == list(kills)


@pytest.mark.parametrize("code", [401, 429, 500, 503, 504])
def test_a_failing_server_is_tried_again(tmp_path: Path, code: int) -> None:
    answers = [
        http_response(code, b'{"message":"etcd is slow\\u001b[31m"}', Retry_After="7"),
        # It had stored the first one.
        status_response(409, reason="AlreadyExists"),
    ]
    with run_transport(tmp_path, lambda _: answers.pop(0)) as (transport, server):
        response = transport.send(pod_kill_log())
        assert response.result is ExportResult.RETRYABLE
        assert response.retry_after_s == 7
        assert response.reason == f"HTTP {code}: etcd is slow [31m"
        assert transport.send(pod_kill_log()).result is ExportResult.ACCEPTED
        first, second = events_of(server)
    assert first["metadata"] == second["metadata"]


def test_a_silent_server_takes_no_longer_than_the_timeout(tmp_path: Path) -> None:
    """Of a whole batch."""
    bodies = [pod_kill_log(n, pod_name=f"pod-{n}", pod_uid=f"{n}") for n in range(10)]
    with silent_server() as address:
        config = exporter_config(f"http://{address}", tmp_path, timeout_s=0.1)
        with closing(PodEventTransport(config)) as transport:
            response = transport.send(b"".join(bodies))
    assert response.result is ExportResult.RETRYABLE
    assert response.reason == "no response within 0.1 s"


def test_what_was_created_before_a_failure_is_not_created_again(tmp_path: Path) -> None:
    answers = [CREATED, http_response(500), CREATED]
    body = pod_kill_log() + pod_kill_log(1, pod_name="db-0", pod_uid="other")
    with run_transport(tmp_path, lambda _: answers.pop(0)) as (transport, server):
        assert transport.send(body).result is ExportResult.RETRYABLE
        assert transport.send(body).result is ExportResult.ACCEPTED
        names = [event["regarding"]["name"] for event in events_of(server)]
    assert names == ["web-7d4b9", "db-0", "db-0"]


def test_a_missing_right_is_named(tmp_path: Path) -> None:
    message = (
        'events.events.k8s.io is forbidden: User "u" cannot create resource "events" in API group '
        '"events.k8s.io" in the namespace "shop"'
    )
    answer = status_response(403, reason="Forbidden", message=message)
    with run_transport(tmp_path, lambda _: answer) as (transport, server):
        response = transport.send(pod_kill_log())
        assert response.result is ExportResult.REJECTED
        assert "needs the verb create on the resource events of the apiGroup" in response.reason
        assert response.reason.endswith(message)
        # Nor is there a storm of requests: at most ten at once.
        for number in range(1, 20):
            transport.send(pod_kill_log(number))
        assert len(server.requests) == 10


@pytest.mark.parametrize(
    "message",
    [
        'admission webhook "policy.example" denied the request: no label',
        'events.events.k8s.io "x" is forbidden: exceeded quota: objects, used: 9, limited: 9',
    ],
)
def test_admission_that_forbids_an_event_says_so_itself(tmp_path: Path, message: str) -> None:
    answer = status_response(403, reason="Forbidden", message=f"{message}\x1b[31m")
    with run_transport(tmp_path, lambda _: answer) as (transport, _):
        response = transport.send(pod_kill_log())
    assert response.result is ExportResult.REJECTED
    assert response.reason == f"HTTP 403: {message} [31m"


@pytest.mark.parametrize("token", ["s3cret\ntoken", "s3cret\r\n token", "s3cret\x00", " s3cret\n"])
@pytest.mark.parametrize("code", [403, 500])
def test_no_reason_contains_the_token(tmp_path: Path, token: str, code: int) -> None:
    """Neither of the client, nor of a proxy or server that echoes the request."""

    def answer(request: Request) -> bytes:
        return http_response(code, f"denied: {request.headers['authorization']}".encode())

    with run_transport(tmp_path, answer) as (transport, _):
        (tmp_path / "token").write_text(token, encoding="ascii")
        for response in (transport.send(pod_kill_log()), transport.check()):
            assert response.reason
            assert "s3cret" not in response.reason


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (404, {"kind": "namespaces", "name": "shop"}),
        (403, {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}),
    ],
)
def test_a_namespace_that_is_gone_needs_no_event(
    tmp_path: Path, code: int, details: object
) -> None:
    """As a real server responds: tests/cluster has it."""
    answer = status_response(code, reason="NotFound", details=details)
    with run_transport(tmp_path, lambda _: answer) as (transport, _):
        assert transport.send(pod_kill_log()).result is ExportResult.ACCEPTED


@pytest.mark.parametrize("code", [302, 400, 404, 422])
def test_other_responses_reject(tmp_path: Path, code: int) -> None:
    with run_transport(tmp_path, lambda _: http_response(code, b"no such page")) as (transport, _):
        response = transport.send(pod_kill_log())
    assert response.result is ExportResult.REJECTED
    assert response.reason == f"HTTP {code}: no such page"


def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    def answer(request: Request) -> bytes:
        return CREATED if request.headers["authorization"] == "Bearer next" else http_response(401)

    with run_transport(tmp_path, answer) as (transport, _):
        assert transport.send(pod_kill_log()).result is ExportResult.RETRYABLE
        (tmp_path / "token").write_text("next", encoding="ascii")
        assert transport.send(pod_kill_log()).result is ExportResult.ACCEPTED
        (tmp_path / "token").unlink()
        lost = transport.send(pod_kill_log(1, pod_name="db-0", pod_uid="other"))
    assert lost.result is ExportResult.RETRYABLE
    assert "token" in lost.reason


_KILL = pod_kill()
_NESTED = replace(_KILL.containers, victim=Container("c" * 64, "podman", scope="user"))
_OLD = replace(
    _KILL, event=replace(_KILL.event, time_unix_ns=_KILL.event.time_unix_ns - 3601 * 10**9)
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(encode_log(sample_enriched_kill()), id="no pod"),
        pytest.param(encode_log(_OLD), id="older than an hour"),
        pytest.param(pod_kill_log(pod_name=""), id="no name"),
        pytest.param(pod_kill_log(claimed=("k8s.pod.name",)), id="a name that the victim claims"),
        pytest.param(pod_kill_log(claimed=("k8s.namespace.name",)), id="a claimed namespace"),
        pytest.param(pod_kill_log(namespace_name="../kube-system"), id="another path"),
        pytest.param(pod_kill_log(pod_name="Web\n"), id="no name of a pod"),
        pytest.param(
            encode_log(replace(_KILL, event=replace(_KILL.event, skipped=True))), id="not killed"
        ),
        pytest.param(encode_log(replace(_KILL, containers=_NESTED)), id="a runtime of a tenant"),
        pytest.param(daemon_kill_log(verified=False), id="a message that no death confirms"),
    ],
)
def test_kills_without_an_event(tmp_path: Path, body: bytes) -> None:
    """They are done, and the next kill of the pod has its Event at once."""
    with run_transport(tmp_path) as (transport, server):
        response = transport.send(body)
        assert (response.result, response.deferred_s) == (ExportResult.ACCEPTED, {})
        assert not server.requests
        assert not transport.send(pod_kill_log(1)).deferred_s
        assert len(server.requests) == 1


def test_a_verified_kill_by_a_daemon_names_it(tmp_path: Path) -> None:
    with run_transport(tmp_path) as (transport, server):
        transport.send(daemon_kill_log(verified=True))
        (event,) = events_of(server)
    assert event["note"] == "java (pid 4711 of the node), killed by earlyoom."


def test_kills_whose_pod_has_no_name_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with run_transport(tmp_path) as (transport, _):
        for number in (1, 2, 2):
            transport.send(pod_kill_log(number, pod_name=""))
    messages = [record.getMessage() for record in caplog.records]
    assert [message.rpartition(" ")[2] for message in messages] == ["total=1", "total=2"]


def test_text_of_the_victim_is_bounded_and_printable(tmp_path: Path) -> None:
    """Within the limits of Kubernetes' pkg/apis/core/validation/events.go."""
    kill = pod_kill(pod_name="p" * 63 + ".x" * 90, container_name="bad\x1b[31m")
    comm = "\x1b]0;\n\u202e" + "ü" * 2000
    victim = replace(kill.event.victim, comm=comm)
    with run_transport(tmp_path) as (transport, server):
        transport.send(encode_log(replace(kill, event=replace(kill.event, victim=victim))))
        (event,) = events_of(server)
    assert event["note"].startswith(r"\x1b]0;\n\u202eü")
    assert event["note"].isprintable()
    assert len(event["note"].encode()) <= 1024
    assert len(event["metadata"]["name"]) <= 253
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", event["metadata"]["name"])
    assert "fieldPath" not in event["regarding"]


@pytest.mark.slow  # it waits for a retry
def test_a_deferred_kill_stays_on_disk_and_delays_no_other(outbox: Outbox, tmp_path: Path) -> None:
    """Through the outbox: a failing API server delays neither OTLP nor loses the Event."""
    channel = "logs:kubernetes_events"
    answers = [http_response(503), CREATED]
    outbox.store.set_channels({"logs": ("logs", channel)})
    kills = [pod_kill(number) for number in range(3)]
    with HttpServer(lambda _: answers.pop(0)) as server:
        config = exporter_config(server.url, tmp_path)
        transport = PodEventTransport(config)
        exporter = SignalExporter(outbox.store, config, transport)
        outbox.store.enqueue(
            [OutboxEntry(0, kill.event.uid, encode_log(kill), None) for kill in kills]
        )
        with run_exporter(exporter):
            wait_until(lambda: not answers and exporter.is_idle, "the first Event", limit=60)
    (left,) = outbox.store.next_batch(channel, 10, 1 << 20)
    assert left.uid == kills[1].event.uid
    assert len(outbox.store.next_batch("logs", 10, 1 << 20)) == 3
    with HttpServer(lambda _: CREATED) as server:
        config = exporter_config(server.url, tmp_path)
        # After a restart the minute is forgotten: nothing is lost, and nothing waits for ever.
        with run_exporter(SignalExporter(outbox.store, config, PodEventTransport(config))):
            wait_until(
                lambda: not outbox.store.next_batch(channel, 10, 1 << 20), "the next", limit=60
            )
        assert len(server.requests) == 1


class DeferringTransport:
    """A transport that lets some messages wait for a minute."""

    def __init__(self, waits: Callable[[list[str]], Mapping[str, float]]) -> None:
        self._waits = waits
        self.sent: Counter[str] = Counter()

    def send(self, body: bytes) -> ExportResponse:
        """Count the messages of ``body``, and let those of ``waits`` wait."""
        groups = ExportLogsServiceRequest.FromString(body).resource_logs
        uids = [group.scope_logs[0].log_records[0].event_name for group in groups]
        self.sent.update(uids)
        return ExportResponse(ExportResult.ACCEPTED, deferred_s=self._waits(uids))

    def close(self) -> None:
        """Do nothing."""


def run_until_idle(outbox: Outbox, folder: Path, transport: DeferringTransport) -> list[str]:
    """Export once; return what is left."""
    config = exporter_config("http://127.0.0.1:1", folder)
    channel = config.channel
    outbox.store.set_channels({"logs": (channel,)})
    outbox.enqueue(*(f"kill-{number}" for number in range(5)))
    exporter = SignalExporter(outbox.store, config, transport)
    with run_exporter(exporter):
        wait_until(lambda: transport.sent and exporter.is_idle, "all is sent", limit=60)
    return [message.uid for message in outbox.store.next_batch(channel, 10, 1 << 20)]


def test_a_deferred_uid_that_no_message_has_lets_all_wait(outbox: Outbox, tmp_path: Path) -> None:
    """As a processor may change the uid in the record: its kill must not leave the outbox."""
    transport = DeferringTransport(lambda _: {"another": MINUTE_S})
    assert len(run_until_idle(outbox, tmp_path, transport)) == 5
    assert set(transport.sent.values()) == {1}


def test_deferred_messages_are_bounded(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no place waits in the outbox, and is not sent in a loop."""
    monkeypatch.setattr(parking, "_MAX_DEFERRED", 2)
    transport = DeferringTransport(lambda uids: dict.fromkeys(uids, MINUTE_S))
    assert len(run_until_idle(outbox, tmp_path, transport)) == 5
    assert list(transport.sent.values()) == [1, 1]


@pytest.mark.parametrize(("allowed", "result"), [(True, "ACCEPTED"), (False, "REJECTED")])
def test_the_right_can_be_queried_without_an_event(
    tmp_path: Path, *, allowed: bool, result: str
) -> None:
    review = json.dumps({"status": {"allowed": allowed}}).encode()
    with run_transport(tmp_path, lambda _: http_response(201, review)) as (transport, server):
        assert transport.check().result.name == result
        (request,) = server.requests
    assert request.target == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
