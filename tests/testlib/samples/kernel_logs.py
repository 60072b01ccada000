"""A kill as each kernel since 2.6 logs it, in sample texts, with the expected values.

They follow the format strings of mm/oom_kill.c, mm/memcontrol.c, lib/dump_stack.c and
arch/x86/mm/fault.c of those kernels. :data:`MESSAGE_FORMATS` is one side of the table of formats
and producers: in the output of each producer, a text has the same values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from otel_oom.model.events import OomKill

KB: Final = 1024


@dataclass(frozen=True, slots=True)
class ExpectedVictim:
    """The expected values of a kill; sizes in kB, ``candidates`` by pid, the largest first."""

    pid: int | None
    comm: str
    message: str | None = None
    constraint: str | None = None
    total_vm: int | None = None
    anon: int | None = None
    file: int | None = None
    shmem: int | None = None
    page_tables: int | None = None
    uid: int | None = None
    score_adj: int | None = None
    trigger: int | None = None
    oom_memcg: str | None = None
    memcg: str | None = None
    limit: int | None = None
    tasks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """A format by its number in the table, the kernels that print it, and a sample."""

    number: int
    name: str
    kernels: str
    text: str
    victims: tuple[ExpectedVictim, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the lines of the sample."""
        return tuple(self.text.strip("\n").split("\n"))


def victim_of(kill: OomKill) -> ExpectedVictim:
    """Return the values of an event in the form of the expectation."""
    memory, decision = kill.memory, kill.decision
    assert decision is not None
    sizes = (
        [memory.total_vm, memory.anon, memory.file, memory.shmem, memory.page_tables]
        if memory
        else [None] * 5
    )
    total_vm, anon, file, shmem, page_tables = (
        None if size is None else size // KB for size in sizes
    )
    limits = decision.memcg_usage
    return ExpectedVictim(
        pid=kill.victim.tgid,
        comm=kill.victim.comm or "",
        message=decision.message,
        constraint=decision.constraint,
        total_vm=total_vm,
        anon=anon,
        file=file,
        shmem=shmem,
        page_tables=page_tables,
        uid=kill.victim.uid,
        score_adj=kill.victim.score_adj,
        trigger=kill.trigger.tid if kill.trigger else None,
        oom_memcg=decision.memcg.path if decision.memcg else None,
        memcg=kill.memcg.path if kill.memcg else None,
        limit=limits.limit // KB if limits and limits.limit else None,
        tasks=tuple(task.tgid for task in kill.tasks.largest) if kill.tasks else (),
    )


def format_table() -> str:
    """Return the table of the formats with their values."""
    head = ["| | format | kernels | kills | values |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *_rows()])


def _rows() -> Iterator[str]:
    for message_format in MESSAGE_FORMATS:
        values = dict.fromkeys(
            field.name.replace("_", " ")
            for victim in message_format.victims
            for field in fields(victim)
            if getattr(victim, field.name) not in {None, ()}
        )
        yield (
            f"| {message_format.number} | {message_format.name} | {message_format.kernels} "
            f"| {len(message_format.victims)} "
            f"| {', '.join(values) or '-'} |"
        )


MESSAGE_FORMATS: Final = (
    MessageFormat(
        1,
        "page fault",
        "2.6.0 to 2.6.28",
        "VM: killing process mysqld",
        (ExpectedVictim(None, "mysqld"),),
    ),
    MessageFormat(
        1,
        "page fault, with pid",
        "2.6.0 to 2.6.37",
        "VM: killing process my(sql) d(4242)",
        (ExpectedVictim(4242, "my(sql) d"),),
    ),
    MessageFormat(
        2,
        "kill in one line",
        "2.6.0 to 2.6.18",
        """
oom-killer: gfp_mask=0xd2, order=0
Mem-info:
DMA per-cpu:
cpu 0 hot: low 2, high 6, batch 1
Free pages:         412kB (0kB HighMem)
Out of Memory: Killed process 2314 (httpd).
VM: killing process httpd
""",
        (ExpectedVictim(2314, "httpd", "Out of Memory"),),
    ),
    MessageFormat(
        2,
        "user before the name, without sizes",
        "2.6.18 of Red Hat 5",
        "Out of memory: Killed process 3508, UID 48, (ht, (tpd).",
        (ExpectedVictim(3508, "ht, (tpd", "Out of memory", uid=48),),
    ),
    MessageFormat(
        2,
        "kill in a container of OpenVZ",
        "2.6.18 and 2.6.32 of OpenVZ",
        """
OOM killer in rage 2: 4 tasks killed
Out of memory in UB 101: OOM killed process 4242 (php-cgi) score 0 vm:281988kB, rss:17004kB, \
swap:0kB
""",
        (ExpectedVictim(4242, "php-cgi", "Out of memory in UB 101"),),
    ),
    MessageFormat(
        3,
        "kill process or a child",
        "2.6.19 to 2.6.32",
        """
cc1 invoked oom-killer: gfp_mask=0x201da, order=0, oomkilladj=0
Pid: 811, comm: cc1 Not tainted 2.6.30 #3
Call Trace:
 [<ffffffff802a9f10>] oom_kill_process+0xa9/0x260
 [<ffffffff802aa3f5>] __out_of_memory+0x165/0x1b0
 [<ffffffff802aa52e>] out_of_memory+0xee/0x180
Mem-Info:
Node 0 DMA per-cpu:
Out of memory: kill process 700 (make) score 4711 or a child
Killed process 811 (cc1)
""",
        (ExpectedVictim(811, "cc1", "Out of memory", trigger=811),),
    ),
    MessageFormat(
        3,
        "kill process or a child, without the line of the kill",
        "2.6.19 to 2.6.35",
        "No available memory (MPOL_BIND): kill process 700 (make) score 4711 or a child",
        (ExpectedVictim(700, "make", "No available memory (MPOL_BIND)", "memory_policy"),),
    ),
    MessageFormat(
        4,
        "sizes from vsz on; oldest task table",
        "2.6.33 to 2.6.35",
        """
stress invoked oom-killer: gfp_mask=0xd0, order=0, oom_adj=3
stress cpuset=/ mems_allowed=0
Pid: 1501, comm: stress Not tainted 2.6.33 #1
Call Trace:
 [<ffffffff810c37ef>] oom_kill_process+0x9f/0x220
 [<ffffffff810c3b4e>] mem_cgroup_out_of_memory+0x6e/0xb0
Task in /lxc/web killed as a result of limit of /lxc
memory: usage 65536kB, limit 65536kB, failcnt 215
memory+swap: usage 65540kB, limit 9007199254740991kB, failcnt 0
Mem-Info:
Node 0 DMA per-cpu:
CPU    0: hi:    0, btch:   1 usd:   0
[ pid ]   uid  tgid total_vm      rss cpu oom_adj name
[ 1400]  1000  1400     2800      700   1       0 a name
[ 1501]  1000  1501    18000    15000   0       3 stress
Memory cgroup out of memory: kill process 1501 (stress) score 18000 or a child
Killed process 1501 (stress) vsz:72000kB, anon-rss:59000kB, file-rss:1000kB
""",
        (
            ExpectedVictim(
                *(1501, "stress", "Memory cgroup out of memory", "memcg"),
                *(72000, 59000, 1000),
                uid=1000,
                trigger=1501,
                oom_memcg="/lxc",
                limit=65536,
                tasks=(1501, 1400),
            ),
        ),
    ),
    MessageFormat(
        5,
        "user before the name",
        "2.6.32 of Red Hat 6",
        """
java invoked oom-killer: gfp_mask=0x280da, order=0, oom_adj=0, oom_score_adj=0
Pid: 3001, comm: java Not tainted 2.6.32 #1
Mem-Info:
[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
[  900]     0   900     1000      100   0     -17         -1000 sshd
[ 3000]   501  3000   900000   400000   1       0             0 java
Out of memory: Kill process 3000 (java) score 853 or sacrifice child
Killed process 3000, UID 501, (java) total-vm:3600000kB, anon-rss:1600000kB, file-rss:24kB
""",
        (
            ExpectedVictim(
                *(3000, "java", "Out of memory", None, 3600000, 1600000, 24),
                uid=501,
                score_adj=0,
                tasks=(3000, 900),
            ),
        ),
    ),
    MessageFormat(
        6,
        "kill process or sacrifice child",
        "2.6.36 to 4.4",
        """
apache2 invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
apache2 cpuset=web mems_allowed=0
CPU: 1 PID: 5120 Comm: apache2 Not tainted 3.16.0 #1
Hardware name: none
 ffff88007c2d1000 ffffffff8150e08f ffff88003746b2f0 ffffffff8150bd0d
Call Trace:
 [<ffffffff8150e08f>] ? dump_stack+0x5d/0x78
 [<ffffffff8150bd0d>] ? dump_header+0x76/0x1e8
 [<ffffffff811429dd>] oom_kill_process+0x21d/0x370
 [<ffffffff811a2a19>] mem_cgroup_oom_synchronize+0x529/0x5a0
Task in /web/a killed as a result of limit of /web
memory: usage 102400kB, limit 102400kB, failcnt 1999
memory+swap: usage 0kB, limit 18014398509481983kB, failcnt 0
kmem: usage 0kB, limit 18014398509481983kB, failcnt 0
Memory cgroup stats for /web: cache:0KB rss:0KB rss_huge:0KB unevictable:0KB
Memory cgroup stats for /web/a: cache:16KB rss:102384KB rss_huge:0KB unevictable:0KB
[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
[ 5100]    33  5100    20000     1000      40       10             0 apache2
[ 5120]    33  5120    40000    24000      70      300             0 apache2
Memory cgroup out of memory: Kill process 5120 (apache2) score 950 or sacrifice child
Killed process 5120 (apache2) total-vm:160000kB, anon-rss:95000kB, file-rss:1000kB
""",
        (
            ExpectedVictim(
                *(5120, "apache2", "Memory cgroup out of memory", "memcg", 160000, 95000, 1000),
                uid=33,
                score_adj=0,
                trigger=5120,
                oom_memcg="/web",
                memcg="/web/a",
                limit=102400,
                tasks=(5120, 5100),
            ),
        ),
    ),
    MessageFormat(
        7,
        "user after the name",
        "3.10 of Red Hat 7",
        """
Memory cgroup out of memory: Kill process 88 (x) y) score 12 or sacrifice child
Killed process 88 (x) y), UID 1001, total-vm:900kB, anon-rss:80kB, file-rss:8kB, shmem-rss:4kB
""",
        (
            ExpectedVictim(
                *(88, "x) y", "Memory cgroup out of memory", "memcg", 900, 80, 8, 4),
                uid=1001,
            ),
        ),
    ),
    MessageFormat(
        8,
        "format 6 with shared memory",
        "4.5 to 5.0",
        """
node invoked oom-killer: gfp_mask=0x14201ca(GFP_HIGHUSER_MOVABLE|__GFP_COLD), \
nodemask=(null),  order=0, oom_score_adj=0
CPU: 0 PID: 640 Comm: node Tainted: G           OE   4.15.0 #1
Call Trace:
 dump_stack+0x63/0x8b
 dump_header+0x71/0x285
 oom_kill_process+0x220/0x440
 out_of_memory+0x2d1/0x4f0
Mem-Info:
active_anon:800 inactive_anon:2
[ pid ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[  600]     0   600    10000      500    40960       60          -900 agent
[  640]  1000   640   300000   200000  1900544        0             0 node
Out of memory: Kill process 640 (node) score 800 or sacrifice child
Killed process 640 (node) total-vm:1200000kB, anon-rss:790000kB, file-rss:10000kB, shmem-rss:0kB
""",
        (
            ExpectedVictim(
                *(640, "node", "Out of memory", None, 1200000, 790000, 10000, 0),
                uid=1000,
                score_adj=0,
                trigger=640,
                tasks=(640, 600),
            ),
        ),
    ),
    MessageFormat(
        9,
        "kill with its message",
        "5.1 to 5.3",
        """
Memory cgroup out of memory: Killed process 31 (sh) total-vm:4000kB, anon-rss:100kB, \
file-rss:8kB, shmem-rss:0kB
""",
        (ExpectedVictim(31, "sh", "Memory cgroup out of memory", "memcg", 4000, 100, 8, 0),),
    ),
    MessageFormat(
        10,
        "user, page tables and score; newest task table",
        "5.4 and later",
        """
w invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=1
CPU: 1 UID: 7 PID: 71 Comm: w Not tainted 6.12.0 #1
Call Trace:
 <TASK>
 dump_header+0x43/0x1c0
 oom_kill_process+0xfd/0x280
 out_of_memory+0x214/0x500
 mem_cgroup_out_of_memory+0xc0/0x110
 </TASK>
memory: usage 20480kB, limit 20480kB, failcnt 9
swap: usage 0kB, limit 0kB, failcnt 0
Memory cgroup stats for /a:
anon 20000000
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents \
oom_score_adj name
[     70]     7    70     2000      400      300       60       40    49152       20            -5 v
[     71]     7    71     9000     4700     4600       99        1    81920        0             1 w
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,\
task_memcg=/a/b,task=w,pid=71,uid=7
Memory cgroup out of memory: Killed process 71 (w) total-vm:36000kB, anon-rss:18400kB, \
file-rss:396kB, shmem-rss:4kB, UID:7 pgtables:80kB oom_score_adj:1
""",
        (
            ExpectedVictim(
                *(71, "w", "Memory cgroup out of memory", "memcg", 36000, 18400, 396, 4, 80, 7, 1),
                trigger=71,
                oom_memcg="/a",
                memcg="/a/b",
                limit=20480,
                tasks=(71, 70),
            ),
        ),
    ),
    MessageFormat(
        10,
        "page tables in bytes, labelled kB",
        "5.4 and 5.5",
        """
Out of memory: Killed process 31 (sh) total-vm:4000kB, anon-rss:100kB, file-rss:8kB, \
shmem-rss:0kB, UID:0 pgtables:45056kB oom_score_adj:0
""",
        (ExpectedVictim(31, "sh", "Out of memory", None, 4000, 100, 8, 0, 44, 0, 0),),
    ),
    MessageFormat(
        11,
        "summary in one line, and its kill",
        "5.0 and later",
        """
oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=0-1,cpuset=c,mems_allowed=1,global_oom,\
task_memcg=/u,task=z,pid=9,uid=4
Out of memory: Killed process 9 (z) total-vm:80kB, anon-rss:8kB, file-rss:4kB, shmem-rss:0kB, \
UID:4 pgtables:40kB oom_score_adj:0
""",
        (ExpectedVictim(9, "z", "Out of memory", "cpuset", 80, 8, 4, 0, 40, 4, 0, memcg="/u"),),
    ),
    MessageFormat(
        11,
        "summary in one line, without the line of the kill",
        "5.0 and later",
        """
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
task_memcg=/u,task=z,pid=9,uid=4
usb 1-1: new high-speed USB device number 2 using ehci-pci
""",
        (ExpectedVictim(9, "z", None, "none", uid=4, memcg="/u"),),
    ),
    MessageFormat(
        12,
        "cgroups only",
        "2.6.29 to 4.20",
        """
q invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
Task in / killed as a result of limit of /b killed as a result of limit of /b
Task in /b/c killed as a result of limit of /b killed as a result of limit of /b
""",
    ),
    MessageFormat(
        13,
        "limit reached, no killable process",
        "4.1 to 4.20",
        """
q invoked oom-killer: gfp_mask=0x6000c0(GFP_KERNEL), nodemask=(null), order=0, oom_score_adj=0
Memory limit reached of cgroup /b
""",
    ),
    MessageFormat(
        14,
        "other members of a group",
        "4.19 and later",
        """
Memory cgroup out of memory: Killed process 31 (sh) total-vm:4000kB, anon-rss:100kB, \
file-rss:8kB, shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0
Tasks in /g are going to be killed due to memory.oom.group set
Memory cgroup out of memory: Killed process 31 (sh) total-vm:4000kB, anon-rss:0kB, \
file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0
Memory cgroup out of memory: Killed process 32 (ls) total-vm:3000kB, anon-rss:60kB, \
file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:36kB oom_score_adj:0
""",
        (
            ExpectedVictim(
                31, "sh", "Memory cgroup out of memory", "memcg", 4000, 100, 8, 0, 40, 0, 0
            ),
            ExpectedVictim(
                *(32, "ls", "Memory cgroup out of memory", "memcg", 3000, 60, 4, 0, 36, 0, 0),
                memcg="/g",
            ),
        ),
    ),
    MessageFormat(
        15,
        "victim already exiting, skipped",
        "5.9 and later",
        "Memory cgroup out of memory: OOM victim 31 (sh) is already exiting. Skip killing the task",
    ),
    MessageFormat(
        16,
        "oom_reaper result",
        "4.6 and later",
        """
oom_reaper: reaped process 31 (sh), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB
oom_reaper: reaped process 32 (ls), now anon-rss:0kB, file-rss:0kB, shmem-rss:0lkB
oom_reaper: unable to reap pid:33 (cp)
""",
    ),
    MessageFormat(
        17,
        "process that shares the victim's memory",
        "2.6.37 to 4.4",
        "Kill process 45 (twin) sharing same memory",
    ),
    MessageFormat(
        18,
        "no killable process, or panic",
        "2.6 and later",
        """
System is deadlocked on memory
Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled
Kernel panic - not syncing: Out of memory and no killable processes...
Kernel panic - not syncing: out of memory. panic_on_oom is selected
""",
    ),
)
"""Each with its report where the report has a format of its own."""
