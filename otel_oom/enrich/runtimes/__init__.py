"""Compare the memory settings of a victim's runtime with the limit that was hit.

One module for each runtime has its rules, with their source: its documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from otel_oom.enrich.runtimes.bound import HeapBound, Memory
from otel_oom.enrich.runtimes.dotnet import bound_dotnet
from otel_oom.enrich.runtimes.go import bound_go
from otel_oom.enrich.runtimes.jvm import bound_jvm
from otel_oom.enrich.runtimes.nodejs import bound_nodejs
from otel_oom.enrich.runtimes.servers import bound_server
from otel_oom.model import runtime
from otel_oom.model.runtime import RuntimeSettings

RuntimeProblem = Literal["exceeds_limit", "unbounded", "outside_bound"]

_BOUNDS: Final[dict[str, Callable[[RuntimeSettings, Memory], HeapBound | None]]] = {
    runtime.JVM: bound_jvm,
    runtime.NODEJS: bound_nodejs,
    runtime.GO: bound_go,
    runtime.DOTNET: bound_dotnet,
    runtime.POSTGRESQL: bound_server,
    runtime.REDIS: bound_server,
    runtime.MYSQL: bound_server,
}


class RuntimeFinding(Struct, frozen=True):
    """A runtime's bound that does not explain how a limit is kept; sizes are in bytes.

    ``problem``: the bound ``exceeds_limit``, with the reserve for the rest of the memory; there is
    none (``unbounded``); or it fits, and more than the reserve was used outside of it
    (``outside_bound``). ``limit_bytes`` was hit, ``used_bytes`` is the victim's memory.
    """

    problem: RuntimeProblem
    bound: HeapBound
    limit_bytes: int
    used_bytes: int

    @property
    def remaining_bytes(self) -> int:
        """The part of the limit that the bound leaves."""
        return max(0, self.limit_bytes - (self.bound.max_bytes or 0))

    @property
    def fitting_limit_bytes(self) -> int | None:
        """A limit that fits the bound; ``None`` if there is no bound."""
        bound = self.bound
        return None if bound.max_bytes is None else bound.reserve.fitting_limit(bound.max_bytes)


def check_runtime(
    settings: RuntimeSettings, memory: Memory, used_bytes: int
) -> RuntimeFinding | None:
    """Return the problem of a runtime's bound at a limit; ``None`` if it is not known to have one.

    ``used_bytes`` is the victim's memory, resident and swapped.
    """
    bound_memory = _BOUNDS.get(settings.name)
    bound = bound_memory(settings, memory) if bound_memory else None
    if bound is None:
        return None
    reserve = bound.reserve.size(memory.limit)
    problem: RuntimeProblem
    if bound.max_bytes is None:
        problem = "unbounded"
    elif bound.max_bytes > memory.limit - reserve:
        problem = "exceeds_limit"
    elif not bound.is_soft and used_bytes > bound.max_bytes + reserve:
        problem = "outside_bound"
    else:
        return None
    return RuntimeFinding(problem, bound, memory.limit, used_bytes)
