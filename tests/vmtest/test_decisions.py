"""Every decision of every supported kernel, compared with that kernel's own log."""

from __future__ import annotations

from otel_oom.enrich.event import limit_scope
from otel_oom.enrich.stack_analysis import analyse_stack
from tests.vmtest.guest import GuestRun
from tests.vmtest.parametrize import by_both, by_bpf, every_kill, every_mark
from tests.vmtest.scenario_result import ScenarioResult, SourceEvents

KB = 1024


@every_kill
@by_both
def test_a_decision_has_the_values_of_its_log_header(
    result: ScenarioResult, events: SourceEvents, guest_run: GuestRun
) -> None:
    """Constraint, request, cgroup, usage and limit.

    The log has few headers of a storm; a group has one decision.
    """
    logged = result.logged_kills(events)
    assert any(kill.victim.tgid in result.headers for kill in logged) or not logged
    for kill in logged:
        decision, header = kill.decision, result.headers.get(kill.victim.tgid or 0)
        hook = "/dev/kmsg" if events.source == "kmsg" else guest_run.results["decision_source"]
        if hook == "/dev/kmsg" and header is None and not kill.incident:
            assert decision is None or decision.gfp_mask is None
            continue
        assert decision is not None
        assert decision.source == hook
        assert decision.message == result.line(kill).message
        # The log lacks the cgroups of further victims of a group.
        has_scope = kill.memcg is not None or result.made.scope == "host"
        assert has_scope or (events.source == "kmsg" and kill.incident)
        scope = limit_scope(kill, analyse_stack(kill.stack))
        assert scope == (result.made.scope if has_scope else None)
        assert (decision.memcg is None) == (result.made.scope == "host")
        if header is None:
            continue
        assert decision.constraint == header["constraint"].lower()
        assert (decision.memcg.path if decision.memcg else None) == header["limit_memcg"]
        assert decision.gfp_mask == int(header["mask"], 16)
        assert decision.gfp_flags == header["flags"]
        assert decision.order == int(header["order"])
        if decision.memcg_usage and header["limit"]:
            assert decision.memcg_usage.limit == int(header["limit"]) * KB
            assert decision.total_memory in {
                None,
                result.made.memory_and_swap_limit or decision.memcg_usage.limit,
            }
            assert (
                abs((decision.memcg_usage.usage or 0) - int(header["usage"]) * KB)
                <= result.slack_bytes
            )


@every_kill
@by_both
def test_the_cgroup_is_the_victims_memory_cgroup(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Path and inode; the log has the path, in a header, and for a group in its first line.

    Below the cgroup of a group, the log does not say which cgroup a member was in.
    """
    for kill in events.kills:
        header = result.headers.get(kill.victim.tgid or 0)
        if events.source == "kmsg" and header is None:
            is_known = kill.incident is not None and not result.made.memcgs
            assert (kill.memcg is not None) == is_known
            if not is_known:
                continue
        assert kill.memcg is not None
        assert not kill.memcg.path_cut
        assert kill.memcg.path == (header["memcg"] if header else kill.memcg.path)
        assert result.made.memcg in {None, kill.memcg.path}
        if events.source == "libbpf":
            assert result.made.memcg_id in {None, kill.memcg.id}


@every_kill
@by_both
def test_the_trigger_is_the_allocating_process(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """With sysrq it is a kernel thread.

    The log names a thread: one that is gone before its process is looked up has no trigger.
    """
    for kill in events.kills:
        header = result.headers.get(kill.victim.tgid or 0)
        if kill.trigger is None:
            assert events.source == "kmsg"
            assert header is None or int(header["trigger"]) != kill.victim.tid
            continue
        if header:
            assert kill.trigger.tid == int(header["trigger"])
        trigger = (kill.victim.tgid or 0) if result.made.trigger is None else result.made.trigger
        if trigger > 0:
            assert kill.trigger.tgid == trigger
        elif trigger == 0:
            assert kill.trigger.comm is not None
            assert kill.trigger.comm.startswith("kworker/")


@every_kill
@by_bpf
def test_the_cgroups_limit_and_usage_are_those_at_the_mark(
    result: ScenarioResult, events: SourceEvents
) -> None:
    """Without a file of the cgroup; where its limit was reached, a report has both."""
    for kill in events.kills:
        assert kill.memcg is not None
        header = result.headers.get(kill.victim.tgid or 0)
        if not header or not header["limit"] or header["limit_memcg"] != kill.memcg.path:
            continue
        assert kill.memcg_usage is not None
        assert kill.memcg_usage.limit == int(header["limit"]) * KB
        assert abs((kill.memcg_usage.usage or 0) - int(header["usage"]) * KB) <= result.slack_bytes


@every_mark
@by_both
def test_a_search_without_a_victim_is_an_event(
    result: ScenarioResult, events: SourceEvents, scenario: str
) -> None:
    """When the kernel may kill no process it logs that, and nothing is captured as killed."""
    if scenario == "nobody":
        assert events.no_victims
    elif scenario not in {"other", "exiting", "other_thread"}:
        # The protected process may allocate again there before the other is gone.
        assert not events.no_victims
    for event in events.no_victims:
        assert "Out of memory and no killable processes" in result.log
        # The log names a thread, which may be gone when its line is read.
        if event.trigger is not None or events.source == "libbpf":
            assert event.trigger is not None
            assert event.trigger.tgid == result.made.trigger
        assert event.decision is not None
        assert event.decision.memcg is not None
        assert event.decision.memcg.path == result.made.memcg
        if events.source == "libbpf":
            assert event.decision.memcg.id == result.made.memcg_id
