"""The largest part of the memory of a server, where its command line sets it.

Sources: "Resource Consumption" of PostgreSQL, which advises a quarter of the memory for
``shared_buffers``, and not more than 40 %; the comments on "maxmemory" in redis.conf, which leaves
memory to clients and to the copies of a fork; "Configuring InnoDB Buffer Pool Size" of MySQL, 50 to
75 % of the memory. Their files of settings are not read: without a setting no default is known.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.enrich.runtimes.bound import HeapBound, Memory, Reserve
from otel_oom.enrich.runtimes.options import parse_size
from otel_oom.model.runtime import MYSQL, POSTGRESQL, REDIS, RuntimeSettings
from otel_oom.model.units import KIB, MIB


class _Server(Struct, frozen=True):
    subject: str
    option: str
    unit_bytes: int
    reserve: Reserve
    fitting: str
    fitting_percent: int


_SERVERS: Final = {
    POSTGRESQL: _Server(
        "PostgreSQL's shared memory",
        "shared_buffers",
        8 * KIB,
        Reserve(60, 0, "its sessions and their sorts"),
        "shared_buffers={}MB",
        25,
    ),
    REDIS: _Server(
        "the data of Redis",
        "maxmemory",
        1,
        Reserve(25, 0, "its clients and the copies of a fork"),
        "maxmemory {}mb",
        75,
    ),
    MYSQL: _Server(
        "InnoDB's buffer pool",
        "innodb_buffer_pool_size",
        1,
        Reserve(25, 0, "its sessions"),
        "innodb_buffer_pool_size={}M",
        60,
    ),
}


def bound_server(runtime: RuntimeSettings, memory: Memory) -> HeapBound | None:
    """Return the bound that the command line sets; ``None`` without one."""
    server = _SERVERS[runtime.name]
    value = runtime.settings.get(server.option)
    size = parse_size(value, server.unit_bytes) if value else None
    if not size:
        return None
    fitting = server.fitting.format(memory.limit * server.fitting_percent // 100 // MIB)
    return HeapBound(server.subject, f"{server.option}={value}", size, server.reserve, fitting)
