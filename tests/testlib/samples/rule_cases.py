"""Series on which alerts of ``mixin/rules/prometheus.yaml`` fire, and others on which they do not.

Values are in promtool's notation, a sample a minute: ``0x5 1x5`` is 0 six times, then 1 six times.
``_`` is no sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Labels = Mapping[str, str]

HOST: Final = {"host_name": "node-1", "k8s_node_name": "node-1", "k8s_cluster_name": "eu-1"}
OWNER: Final = {
    "service_name": "shop",
    "service_namespace": "store",
    "k8s_namespace_name": "prod",
    "k8s_container_name": "web",
}
OTLP: Final = {"job": "otel-oom", "instance": "0b1e"}
"""Labels of metrics by OTLP: ``service.name`` and ``service.instance.id``."""
SCRAPED: Final = {"job": "pods", "instance": "10.0.0.7:9464", "pod": "otel-oom-x", "node": "node-1"}
MOVED: Final = {**SCRAPED, "instance": "10.0.0.9:9464", "pod": "otel-oom-y"}
"""The same agent, scraped at its next address."""
PROMOTED: Final = {**OTLP, "host_name": "node-1"}
"""By OTLP to a Prometheus that makes labels of resource attributes, as docs/backends.md says."""
GATEWAY: Final = {**OTLP, "pod": "gateway-a", "container": "collector", "endpoint": "agents"}
"""By a gateway's exporter, scraped as the chart's PodMonitor does."""
NEXT_GATEWAY: Final = {**GATEWAY, "pod": "gateway-b"}
"""The same agent by another pod of the gateway."""
OTHER: Final = {**OTLP, "instance": "77aa"}
"""An agent of another host."""


@dataclass(frozen=True)
class Case:
    """Input series, and the alerts of a name that fire at a minute."""

    alert: str
    what: str
    minute: int
    series: Mapping[str, str]
    firing: Sequence[Labels] = ()

    @property
    def id(self) -> str:
        """A name of the test."""
        return f"{self.alert}-{self.what}".replace(" ", "-")


def name(metric: str, target: Labels, **labels: str) -> str:
    """Return a series' name with its labels."""
    pairs = (f'{key}="{value}"' for key, value in {**target, **labels}.items())
    return f"{metric}{{{', '.join(pairs)}}}"


def agent(target: Labels = OTLP, values: str = "1x600", host: Labels = HOST) -> dict[str, str]:
    """Return the series by which an agent is known while it runs."""
    age = name("otel_oom_queue_age_seconds", target, otel_oom_signal="logs")
    info = name("target_info", target, host_id="0b1e", service_version="1", **host)
    return {age: values.replace("1", "0"), info: values}


def kills(
    values: str,
    target: Labels = OTLP,
    outcome: str = "killed",
    scope: str = "own",
    owner: Labels = OWNER,
    **labels: str,
) -> dict[str, str]:
    """Return a series of ``oom_kills_total``."""
    attributes = {"oom_outcome": outcome, "oom_limit_scope": scope, **owner, **labels}
    return {name("oom_kills_total", target, **attributes): values}


def zero(target: Labels = OTLP, values: str = "0x600") -> dict[str, str]:
    """Return the series without an owner that an agent exports from the start."""
    return kills(values, target, owner={})


def kernel(values: str, node: str = "node-1") -> dict[str, str]:
    """Return node_exporter's count of kills, and the host that it names."""
    target = {"job": "node", "instance": f"{node}:9100"}
    uname = name("node_uname_info", target, nodename=node)
    return {name("node_vmstat_oom_kill", target): values, uname: "1x600"}


def _at_gateways(first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
    return {**agent(GATEWAY), **agent(NEXT_GATEWAY, "_x30 1x600"), **first, **second}


def _own(metric: str, values: str, **labels: str) -> dict[str, str]:
    return {**agent(), name(metric, OTLP, **labels): values}


def _stored(kind: str, values: str) -> dict[str, str]:
    return _own(_STORED, values, otel_oom_event_kind=kind)


_VICTIM: Final = {**HOST, **OWNER}
_NAMELESS: Final = {"host_name": OTLP["instance"]}
_STORED: Final = "otel_oom_event_stored_total"
_OLD_KILLS: Final = _at_gateways(kills("5x600", GATEWAY), kills("_x90 5x600", NEXT_GATEWAY))
_LOST: Final = "otel_oom_event_lost_total"

CASES: Final = (
    Case(
        "OomKill", "first of a service", 35, {**agent(), **zero(), **kills("_x30 1x600")}, [_VICTIM]
    ),
    Case("OomKill", "a further one", 35, {**agent(), **kills("4x30 5x600")}, [_VICTIM]),
    Case(
        "OomKill",
        "by systemd-oomd",
        35,
        {
            **agent(),
            **zero(),
            **kills("_x30 1x600", outcome="signalled", oom_killer_name="earlyoom"),
        },
        [_VICTIM],
    ),
    Case(
        "OomKill",
        "scraped",
        35,
        {**agent(SCRAPED), **zero(SCRAPED), **kills("_x30 1x600", SCRAPED)},
        [_VICTIM],
    ),
    Case(
        "OomKill",
        "with a label of the host",
        35,
        {**agent(PROMOTED), **zero(PROMOTED), **kills("_x30 1x600", PROMOTED)},
        [_VICTIM],
    ),
    Case(
        "OomKill",
        "without target_info",
        35,
        {
            **zero(),
            **kills("_x30 1x600"),
            name("otel_oom_queue_age_seconds", OTLP, otel_oom_signal="logs"): "0x600",
        },
        [{**OWNER, **_NAMELESS}],
    ),
    Case(
        "OomKill",
        "while no agent ran",
        62,
        {**agent(values="1x30 _x29 1x600"), **kills("4x30 _x29 5x600")},
        [_VICTIM],
    ),
    Case(
        "OomKill",
        "in a series with one more attribute",
        35,
        {
            **agent(),
            **kills("9x600", oom_decision_constraint="memcg"),
            **kills("_x30 1x600", oom_decision_constraint="cpuset"),
        },
        [_VICTIM],
    ),
    Case(
        "OomKill",
        "while another host is renamed",
        35,
        {
            **agent(),
            **zero(),
            **kills("_x30 1x600"),
            **agent(OTHER, "1x30 _x600", {"host_name": "old"}),
            **agent(OTHER, "_x29 1x600", {"host_name": "new"}),
        },
        [_VICTIM],
    ),
    Case("OomKill", "over after its time", 50, {**agent(), **zero(), **kills("_x30 1x600")}),
    Case(
        "OomKill",
        "installed with an old store",
        35,
        {**agent(values="_x30 1x600"), **zero(values="_x30 0x600"), **kills("_x30 7x600")},
    ),
    Case(
        "OomKill",
        "moved to another address",
        35,
        {
            **agent(SCRAPED, "1x30 stale"),
            **kills("7x30 stale", SCRAPED),
            **agent(MOVED, "_x31 1x600"),
            **kills("_x31 7x600", MOVED),
        },
    ),
    Case(
        "OomKill",
        "no kill of the victim",
        35,
        {**agent(), **zero(), **kills("_x30 1x600", outcome="already_exiting")},
    ),
    Case(
        "OomKillRepeating",
        "three in an hour",
        60,
        {**agent(), **zero(), **kills("_x30 1x9 2x9 3x600")},
        [_VICTIM],
    ),
    Case(
        "OomKillRepeating", "two in an hour", 60, {**agent(), **zero(), **kills("_x30 1x9 2x600")}
    ),
    Case(
        "OomKillRepeating",
        "three in three hours",
        170,
        {**agent(), **zero(), **kills("_x10 1x70 2x70 3x600")},
    ),
    Case(
        "OomKillRepeating",
        "three of three containers",
        60,
        {
            **agent(),
            **zero(),
            **{
                key: value
                for number in range(3)
                for key, value in kills(
                    "_x30 1x600", owner={**OWNER, "k8s_container_name": f"web-{number}"}
                ).items()
            },
        },
    ),
    Case(
        "OomKillRepeating",
        "two that come by OTLP and by a scrape",
        60,
        {
            **agent(),
            **zero(),
            **kills("_x30 1x9 2x600"),
            **agent(SCRAPED),
            **zero(SCRAPED),
            **kills("_x30 1x9 2x600", SCRAPED),
        },
    ),
    Case(
        "OomGrowing",
        "a leak",
        65,
        {**agent(), **zero(), **kills("_x30 1x600", oom_growth_kind="leak")},
        [_VICTIM],
    ),
    Case(
        "OomGrowing",
        "a spike and a kill without samples",
        65,
        {
            **agent(),
            **zero(),
            **kills("_x30 1x600", oom_growth_kind="spike"),
            **kills("_x30 1x600"),
        },
    ),
    Case(
        "OomGrowing",
        "a leak two hours ago",
        150,
        {**agent(), **zero(), **kills("_x30 1x600", oom_growth_kind="leak")},
    ),
    Case(
        "OomKillHostWide",
        "of the host",
        35,
        {**agent(), **zero(), **kills("_x30 1x600", scope="host")},
        [HOST],
    ),
    Case("OomKillHostWide", "of a limit", 35, {**agent(), **zero(), **kills("_x30 1x600")}),
    Case("OomNoVictim", "stored", 35, _stored("no_victim", "0x30 1x600"), [HOST]),
    Case("OomKill", "old ones at a second gateway", 95, _OLD_KILLS),
    Case("OomKillRepeating", "old ones at a second gateway", 95, _OLD_KILLS),
    Case(
        "OomKill",
        "after a rolling update of the gateway",
        35,
        _at_gateways(kills("5x29 stale", GATEWAY), kills("_x30 6x600", NEXT_GATEWAY)),
        [_VICTIM],
    ),
    Case(
        "OomNoVictim",
        "an old one at a second gateway",
        35,
        _at_gateways(
            {name(_STORED, GATEWAY, otel_oom_event_kind="no_victim"): "1x600"},
            {name(_STORED, NEXT_GATEWAY, otel_oom_event_kind="no_victim"): "_x30 1x600"},
        ),
    ),
    Case("OomNoVictim", "a kill", 35, _stored("kill", "0x30 1x600")),
    Case("OomPanic", "after the reboot", 45, _stored("panic", "0x30 _x9 1x600"), [HOST]),
    Case("OomPanic", "at the first start", 45, _stored("panic", "_x40 1x600"), [HOST]),
    Case("OomPanic", "none", 45, _stored("panic", "0x30 _x9 0x600")),
    Case(
        "OomMissed",
        "missed",
        35,
        {**agent(), **zero(), **kills("_x30 2x600", outcome="missed", owner={})},
        [HOST],
    ),
    Case("OomMissed", "killed", 35, {**agent(), **zero(), **kills("_x30 2x600")}),
    Case(
        "OtelOomBackendAway",
        "for 20 minutes",
        30,
        _own("otel_oom_queue_age_seconds", "0x5 0+60x600", otel_oom_signal="traces"),
        [{**HOST, "otel_oom_signal": "traces"}],
    ),
    Case(
        "OtelOomBackendAway",
        "for 9 minutes",
        33,
        _own("otel_oom_queue_age_seconds", "0x24 0+60x600", otel_oom_signal="traces"),
    ),
    Case(
        "OtelOomRefused",
        "dead letters",
        40,
        {
            **_own("otel_oom_dead_letters", "0x10 2x600", otel_oom_signal="logs"),
            name("otel_oom_queue_parked", OTLP, otel_oom_signal="logs"): "0x600",
        },
        [{**HOST, "otel_oom_signal": "logs"}],
    ),
    Case(
        "OtelOomRefused",
        "none",
        40,
        {
            **_own("otel_oom_dead_letters", "0x600", otel_oom_signal="logs"),
            name("otel_oom_queue_parked", OTLP, otel_oom_signal="logs"): "0x600",
        },
    ),
    Case(
        "OtelOomLosing",
        "full buffer",
        35,
        _own(_LOST, "0x30 3x600", error_type="buffer_full", otel_oom_event_kind="kill"),
        [{**HOST, "error_type": "buffer_full"}],
    ),
    Case(
        "OtelOomLosing",
        "full store",
        35,
        _own("otel_oom_queue_dropped_total", "0x30 3x600", otel_oom_signal="logs"),
        [{**HOST, "error_type": "queue_full"}],
    ),
    Case(
        "OtelOomLosing",
        "exits",
        35,
        _own(_LOST, "0x30 3x600", error_type="buffer_full", otel_oom_event_kind="exit"),
    ),
    Case(
        "OtelOomSilent",
        "while its host is there",
        60,
        {**agent(values="1x30 stale"), **kernel("0x600")},
        [HOST],
    ),
    Case("OtelOomSilent", "without node_exporter", 60, agent(values="1x30 stale"), [HOST]),
    Case(
        "OtelOomSilent",
        "with its host",
        60,
        {**agent(values="1x30 stale"), **dict.fromkeys(kernel("0x600"), "1x30 stale")},
    ),
    Case("OtelOomSilent", "restarted", 60, agent(values="1x30 _x2 1x600")),
    Case(
        "OtelOomCountMismatch",
        "of a blind agent",
        120,
        {**agent(), **zero(), **kernel("3x60 8x600")},
        [{"host_name": "node-1"}],
    ),
    Case(
        "OtelOomCountMismatch",
        "groups count twice",
        120,
        {**agent(), **zero(), **kills("_x58 2x600"), **kernel("3x60 7x600")},
    ),
    Case(
        "OtelOomCountMismatch", "after a reboot", 120, {**agent(), **zero(), **kernel("9x60 0x600")}
    ),
    Case("OtelOomCountMismatch", "of a host without an agent", 120, kernel("3x60 8x600", "node-2")),
)
