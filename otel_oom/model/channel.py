"""Channels of the outbox: one for each exporter of a signal, with a copy of each message.

The channel of OTLP has the name of its signal, ``logs`` or ``traces``. That of another exporter
has its entry point too: ``logs:console``.
"""

from __future__ import annotations


def channel_name(signal: str, exporter: str = "") -> str:
    """Return the channel of ``exporter``; without one, of OTLP."""
    return f"{signal}:{exporter}" if exporter else signal


def channel_signal(channel: str) -> str:
    """Return the signal of a channel."""
    return channel.partition(":")[0]


def channel_exporter(channel: str) -> str:
    """Return the exporter of a channel; empty for OTLP."""
    return channel.partition(":")[2]
