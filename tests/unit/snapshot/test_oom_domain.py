"""The cgroup whose processes the kernel could have killed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.model.types import Memcg
from otel_oom.snapshot.process_scanner import oom_domain
from tests.testlib.samples.events import KILL


@pytest.mark.parametrize(
    ("constraint", "hit", "stack", "expected"),
    [
        ("memcg", "/pod", KILL.stack, "/pod"),
        # The kernel's log can leave out which cgroup it was.
        ("memcg", None, (), "/own"),
        (None, None, KILL.stack, "/own"),
        (None, None, (), None),
        ("none", None, (), None),
        ("cpuset", None, (), None),
    ],
)
def test_oom_domain_is_that_of_the_limit(
    constraint: str | None, hit: str | None, stack: tuple[str, ...], expected: str | None
) -> None:
    """The cgroup that was hit, else the victim's own for a cgroup's limit, else the host."""
    assert KILL.decision is not None
    decision = replace(
        KILL.decision, constraint=constraint, memcg=Memcg(None, hit) if hit else None
    )
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=decision, stack=stack))
    assert (memcg.path if memcg else None) == expected


@pytest.mark.parametrize(("stack", "expected"), [(KILL.stack, "/own"), ((), None)])
def test_oom_domain_without_a_decision_follows_the_stack(
    stack: tuple[str, ...], expected: str | None
) -> None:
    memcg = oom_domain(replace(KILL, memcg=Memcg(None, "/own"), decision=None, stack=stack))
    assert (memcg.path if memcg else None) == expected
