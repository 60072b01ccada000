"""Events on the pods of victims, as a transport of the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Struct

from otel_oom.config.pod_events import PodEvents
from otel_oom.config.redaction import header_secrets
from otel_oom.export.http_client import http
from otel_oom.export.http_connection import HttpConnection
from otel_oom.export.http_response import parse_retry_after_s
from otel_oom.export.pod_event_schedule import PodEventSchedule
from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason
from otel_oom.export.user_agent import USER_AGENT
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.pod_event import PodKill, decode_pod_kills

_LOG = logging.getLogger(__name__)

_MAX_AGE_S: Final = 3600.0
"""The API server keeps an Event for an hour by default: one of an older kill helps nobody."""
_MAX_TOKEN_BYTES: Final = 1 << 16
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_RIGHT: Final = {"group": "events.k8s.io", "resource": "events", "verb": "create"}
FORBIDDEN: Final = (
    "the service account may not create Events: its ClusterRole needs the verb create on the "
    "resource events of the apiGroup events.k8s.io (podEvents.enabled of the chart)"
)
_MISSING_RIGHT: Final = 'cannot create resource "events"'
"""Of RBAC (apiserver, responsewriters/errors.go); admission has other words for its 403."""
_CREATED: Final = frozenset({200, 201, 202, 409})
"""409: it exists, as its name derives from the kill."""
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_ACCEPTED: Final = ExportResponse(ExportResult.ACCEPTED)


class _Cause(Struct):
    reason: str = ""


class _Details(Struct):
    kind: str = ""
    causes: list[_Cause] = []


class _Status(Struct):
    """The ``Status`` of an error (apimachinery, meta/v1)."""

    message: str = ""
    details: _Details | None = None


class PodEventTransport:
    """Transport to the API server; see :class:`.Transport`.

    An accepted kill has its Event, is counted in another one's, or needs none.
    """

    def __init__(
        self, pod_events: PodEvents, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._pod_events = pod_events
        self._clock_s = clock_s
        self._connection = HttpConnection(pod_events.api)
        self._schedule = PodEventSchedule()
        self._nameless_count = 0

    def send(self, body: bytes) -> ExportResponse:
        """Create the Events that are due; see :meth:`.Transport.send`."""
        self._connection.start()
        waits_s: dict[str, float] = {}
        for kill in decode_pod_kills(body):
            if self._schedule.is_done(kill.uid):
                continue
            if not self._needs_event(kill):
                self._schedule.finish(kill.uid)
                continue
            wait_s = self._schedule.plan(kill.pod_uid, kill.uid, kill.unix_ns, self._clock_s())
            if wait_s:
                waits_s[kill.uid] = wait_s
            elif wait_s is not None:
                response = self._create(kill)
                if response.result is not ExportResult.ACCEPTED:
                    return response
        return ExportResponse(ExportResult.ACCEPTED, deferred_s=waits_s)

    def check(self) -> ExportResponse:
        """Query whether the service account may create Events in all namespaces."""
        self._connection.start()
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _RIGHT},
        }
        response, content = self._post(_REVIEWS, review)
        is_allowed = b'"allowed":true' in content.replace(b" ", b"")
        if response.result is ExportResult.ACCEPTED and not is_allowed:
            return ExportResponse(ExportResult.REJECTED, FORBIDDEN)
        return response

    def close(self) -> None:
        """Close the connection, also during a :meth:`send` in another thread."""
        self._connection.close()

    def _needs_event(self, kill: PodKill) -> bool:
        if time.time() - kill.unix_ns / NS_PER_S > _MAX_AGE_S:
            return False
        if not kill.pod:
            self._nameless_count += 1
            _LOG.warning(
                "Pod events: kill dropped, name of its pod not verified: pod_uid=%s total=%d",
                sanitize_reason(kill.pod_uid),
                self._nameless_count,
            )
        return bool(kill.pod)

    def _create(self, kill: PodKill) -> ExportResponse:
        pod = self._schedule.state(kill.pod_uid)
        event = kill.to_event(self._pod_events.instance, pod.more_count, pod.last_unix_ns)
        target = f"/apis/events.k8s.io/v1/namespaces/{kill.namespace}/events"
        response, _ = self._post(target, event)
        if response.result is ExportResult.ACCEPTED:
            self._schedule.on_created(kill.pod_uid, kill.uid, self._clock_s())
        elif response.result is not ExportResult.RETRYABLE:
            self._schedule.on_failed(kill.pod_uid)
        return response

    def _post(self, target: str, body: dict[str, Any]) -> tuple[ExportResponse, bytes]:
        authorization, content = "", b""
        try:
            authorization = f"Bearer {self._read_token()}"
            headers: dict[str, str | bytes] = {
                "accept": "application/json",
                "authorization": authorization,
                "content-type": "application/json",
                "user-agent": USER_AGENT,
            }
            data = msgspec.json.encode(body)
            status, received, content = self._connection.post(target, headers, data)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = self._connection.describe_error(error)
            response = ExportResponse(ExportResult.RETRYABLE, reason)
        else:
            wait_s = parse_retry_after_s(received.get("Retry-After"), received.get("Date"))
            response = _parse_response(status, content, wait_s)
        secrets = header_secrets([authorization, *self._connection.proxy_headers.values()])
        return replace(response, reason=sanitize_reason(response.reason, secrets)), content

    def _read_token(self) -> str:
        """Read the token, which the kubelet replaces before it expires."""
        with self._pod_events.token.open("rb") as file:
            words = file.read(_MAX_TOKEN_BYTES).decode("latin-1").split()
        if len(words) != 1:
            # The client's own error would contain it.
            raise ValueError(f"{self._pod_events.token}: {len(words)} words, expected one token")
        return words[0]


def _parse_response(status: int, content: bytes, wait_s: float | None) -> ExportResponse:
    if status in _CREATED:
        return _ACCEPTED
    error = _parse_status(content)
    reason = f"HTTP {status}: {error.message}"
    details = error.details or _Details()
    is_ending = any(cause.reason == "NamespaceTerminating" for cause in details.causes)
    if is_ending or (status == _NOT_FOUND and details.kind == "namespaces"):
        # Nobody reads the events of a namespace that is gone.
        return _ACCEPTED
    if status == _FORBIDDEN and _MISSING_RIGHT in error.message:
        reason = f"HTTP {status}: {FORBIDDEN}: {error.message}"
    if status in {_UNAUTHORIZED, _TOO_MANY} or status >= _SERVER_ERROR:
        return ExportResponse(ExportResult.RETRYABLE, reason, wait_s, status_code=str(status))
    return ExportResponse(ExportResult.REJECTED, reason, status_code=str(status))


def _parse_status(content: bytes) -> _Status:
    try:
        return msgspec.json.decode(content, type=_Status)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Status(content.decode("utf-8", "replace"))
