"""Lines as kernels print them, and the events that the parser makes of them."""

from __future__ import annotations

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LogEvent, LoggedKill, Report

# Printed by Linux 6.18, less most counters and registers.
REPORT = """\
tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=7
CPU: 1 UID: 0 PID: 5356 Comm: tail Not tainted 6.18.44 #1 PREEMPT(none)\x20
Call Trace:
 <TASK>
 dump_stack_lvl+0x57/0x80
 dump_header+0x43/0x1c0
 oom_kill_process.cold+0x8/0x8a
 out_of_memory+0x214/0x500
 mem_cgroup_out_of_memory+0xc0/0x110
 ? schedule+0x23/0xa0
 asm_exc_page_fault+0x22/0x30
RIP: 0010:read_zero+0x77/0xd0
RSP: 0018:ffffc90004f9fe10 EFLAGS: 00050246
 vfs_read+0xbb/0x360 [some_mod]
 </TASK>
memory: usage 16168kB, limit 16384kB, failcnt 0
memory+swap: usage 16170kB, limit 9007199254740988kB, failcnt 0
kmem: usage 104kB, limit 9007199254740988kB, failcnt 0
Memory cgroup stats for /outer:
cache 20480
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem \
pgtables_bytes swapents oom_score_adj name
[   5356]     0  5356     4701     4000     3617      383         1    \
77824        0            -3 tail
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
oom_memcg=/outer,task_memcg=/outer/inner,task=tail,pid=5356,uid=0
""".splitlines()
KILLED = (
    "Memory cgroup out of memory: Killed process 5356 (tail) total-vm:18804kB, anon-rss:16000kB, "
    "file-rss:1532kB, shmem-rss:4kB, UID:0 pgtables:76kB oom_score_adj:-3"
)
EXITING = (
    "Memory cgroup out of memory: OOM victim 5356 (tail) is already exiting. Skip killing the task"
)
GROUP_KILL = "Tasks in /outer are going to be killed due to memory.oom.group set"
HOST_KILL_SUMMARY = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,"
    "global_oom,task_memcg=/user.slice,task=big,pid=300,uid=1000"
)
NO_KILLABLE_PROCESS = "Out of memory and no killable processes..."
REAPED = "oom_reaper: reaped process 5356 (tail), now anon-rss:4kB, file-rss:8kB, shmem-rss:16kB"


def make_lines(texts: list[str], caller: int | None = None, *, step_ns: int = 1000) -> list[Line]:
    """Return lines in this order, with that time between them."""
    return [Line(text, index * step_ns, index, caller) for index, text in enumerate(texts)]


def parse_lines(given: list[Line]) -> list[LogEvent]:
    """Return the events of a log, without the reports."""
    parser = KernelLogParser()
    events = [parser.feed(line) for line in given]
    return [event for event in events if event is not None and not isinstance(event, Report)]


def parse_kills(texts: list[str], caller: int | None = None) -> list[LoggedKill]:
    """Return the kills of a log."""
    return [
        event for event in parse_lines(make_lines(texts, caller)) if isinstance(event, LoggedKill)
    ]


def killed_line(pid: int, comm: str = "tail", uid: int = 0) -> str:
    """Return the "Killed process" line of another process."""
    line = KILLED.replace("process 5356 (tail)", f"process {pid} ({comm})")
    return line.replace("UID:0", f"UID:{uid}")
