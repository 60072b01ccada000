"""The peers, each started as its own documentation says, and what their output says of a kill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.testlib.servers.build import build_binary
from tests.vmtest.packages import fetch_bcc_oomkill, fetch_rsyslog

Commands = Sequence[tuple[Sequence[str | Path], Mapping[str, str]]]
"""Commands with their further environment."""

_BPFTRACE_TOOL: Final = Path("/usr/sbin/oomkill.bt")
_KILLED: Final = re.compile(r"Killed process (?P<pid>\d+) \((?P<comm>[^)]*)\)")
_OOMKILL: Final = re.compile(
    r'(?P<time>[\d:]{8}) Triggered by PID (?P<trigger_pid>\d+) \("(?P<trigger_comm>[^"]*)"\), '
    r'OOM kill of PID (?P<pid>\d+) \("(?P<comm>[^"]*)"\), (?P<pages>\d+) pages, '
    r"loadavg: (?P<loadavg>[\d. /]+)"
)
_CADVISOR: Final = re.compile(r"\{.*\"Pid\":(?P<pid>\d+).*\}")
_AGENT: Final = re.compile(r'"process\.pid","value":\{"intValue":"(?P<pid>\d+)"')


@dataclass(frozen=True)
class Peer:
    """A program that reports kills on its output; ``fields`` is what it says of one.

    ``commands`` gives the commands, whose first one prints the kills, with their further
    environment. They run in a folder that stays the same when the peer is started again.
    """

    name: str
    version: str
    commands: Callable[[Path], Commands]
    pattern: re.Pattern[str]
    fields: str
    note: str = ""
    clean_up: Sequence[str | Path] = ()
    """A command for the end."""
    events: Callable[[Path], Sequence[str | Path]] | None = None
    """A command that prints the kills, where the output has only some of them."""

    def read_pids(self, output: str) -> set[int]:
        """Return the pids of the kills that an output reports."""
        return {int(match["pid"]) for match in self.pattern.finditer(output)}


@dataclass
class RunningPeer:
    """A started peer, whose output of all its runs is in a file."""

    peer: Peer
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def output(self) -> str:
        """Return what it has printed, or the kills that it has stored."""
        if self.peer.events:
            return _run(*self.peer.events(self.folder))
        path = self.folder / "output"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def runs(self) -> bool:
        """Return whether the command that prints the kills has not ended."""
        return bool(self.processes) and self.processes[0].poll() is None

    def start(self) -> None:
        """Start its commands."""
        self.folder.mkdir(exist_ok=True)
        for number, (command, environ) in enumerate(self.peer.commands(self.folder)):
            name = "output" if number == 0 else f"output-{number}"
            with (self.folder / name).open("ab") as output:
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **environ},
                    cwd=self.folder,
                    stdout=output,
                    stderr=output,
                )
            self.processes.append(process)

    def stop(self) -> None:
        """End them."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def clean_up(self) -> None:
        """End them, and remove what they leave in the kernel."""
        self.stop()
        if self.peer.clean_up:
            subprocess.run(self.peer.clean_up, check=False, stdout=subprocess.DEVNULL)

    def pids(self) -> set[int]:
        """Return the pids of the kills that it has reported."""
        return self.peer.read_pids(self.output)


def _run(*words: str | Path, **environ: str) -> str:
    done = subprocess.run(
        words, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    return (done.stdout or done.stderr).strip()


def own_agent() -> Peer:
    """Return otel-oom, as its unit starts it, with a folder of pins of its own."""

    pins = ("--pin-dir", f"/sys/fs/bpf/otel-oom-bench-{os.getpid()}")
    program = (sys.executable, "-m", "otel_oom")

    def commands(folder: Path) -> Commands:
        return [((*program, "run", "--state-dir", folder / "state", *pins, "--no-history"), {})]

    def events(folder: Path) -> Sequence[str | Path]:
        # The log has at most a hundred lines of one kind in a while.
        last = ("--last", "100000", "--json")
        return (*program, "events", "--state-dir", folder / "state", *last)

    fields = (
        "victim, trigger, limit, decision and request; container, pod, service; stacks; other "
        "processes; end of the victim; advice"
    )
    unpin = (*program, "unpin", *pins)
    return Peer(
        "otel-oom", "of this commit", commands, _AGENT, fields, clean_up=unpin, events=events
    )


def bcc_oomkill() -> Peer:
    """Return bcc's `oomkill`, which needs the headers of the kernel."""
    program = ("/usr/bin/python3", fetch_bcc_oomkill() / "usr/sbin/oomkill-bpfcc")
    environ = {"PYTHONUNBUFFERED": "1"}
    version = _run("dpkg-query", "--show", "--showformat=${Version}", "python3-bpfcc")
    fields = "victim and trigger: pid and name; size of the limit in pages; load; time"
    return Peer("bcc `oomkill`", version, lambda _: [(program, environ)], _OOMKILL, fields)


def bpftrace_oomkill() -> Peer:
    """Return bpftrace's `oomkill.bt`."""
    version = _run("bpftrace", "--version").rpartition(" ")[2]
    fields = "victim and trigger: pid and name; size of the limit in pages; load; time"
    command = ("bpftrace", "-B", "none", _BPFTRACE_TOOL)
    return Peer("bpftrace `oomkill.bt`", version, lambda _: [(command, {})], _OOMKILL, fields)


def node_problem_detector() -> Peer:
    """Return node-problem-detector with its own `kernel-monitor.json`, without Kubernetes."""
    binary = build_binary("node_problem_detector")

    def commands(folder: Path) -> Commands:
        config = folder / "kernel-monitor.json"
        config.write_text(json.dumps(_KERNEL_MONITOR), encoding="ascii")
        words = (
            *(f"--config.system-log-monitor={config}", "--enable-k8s-exporter=false"),
            *("--prometheus-address=127.0.0.1", "--port=0", "--logtostderr"),
        )
        return [((binary, *words), {})]

    fields = "victim: pid, name, sizes, as one text; time"
    note = "rule OOMKilling of its kernel-monitor.json"
    return Peer("node-problem-detector", "1.34.0", commands, _KILLED, fields, note)


_KERNEL_MONITOR: Final = {
    "plugin": "kmsg",
    "logPath": "/dev/kmsg",
    "lookback": "5m",
    "bufferSize": 10,
    "source": "kernel-monitor",
    "metricsReporting": True,
    "conditions": [],
    "rules": [
        {
            "type": "temporary",
            "reason": "OOMKilling",
            "pattern": "Killed process \\d+ (.+) total-vm:\\d+kB, anon-rss:\\d+kB, "
            "file-rss:\\d+kB.*",
        }
    ],
}
"""The part of its file that concerns OOM kills."""


def collector_filelog() -> Peer:
    """Return the Collector with the filelog receiver, on a file that rsyslog writes."""
    binary, rsyslog = build_binary("log_collector"), fetch_rsyslog()

    def commands(folder: Path) -> Commands:
        log, config = folder / "kern.log", folder / "config.yaml"
        log.touch()
        config.write_text(_COLLECTOR.format(log=log), encoding="utf-8")
        libraries = rsyslog / "usr/lib/x86_64-linux-gnu"
        syslog = folder / "rsyslog.conf"
        syslog.write_text(f'module(load="imklog")\nkern.* {log}\n', encoding="utf-8")
        daemon = (rsyslog / "usr/sbin/rsyslogd", "-n", "-f", syslog, "-i", "NONE")
        environ = {"LD_LIBRARY_PATH": str(libraries)}
        return [
            ((binary, "--config", f"file:{config}"), {}),
            ((*daemon, "-M", libraries / "rsyslog"), environ),
        ]

    fields = "the kernel's lines as text; time"
    note = "with rsyslog, which writes the file"
    return Peer("Collector, filelog receiver", "0.160.0", commands, _KILLED, fields, note)


_COLLECTOR: Final = """
receivers:
  filelog:
    include: [{log}]
exporters:
  debug:
    verbosity: detailed
    sampling_initial: 1000000
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    logs:
      receivers: [filelog]
      exporters: [debug]
"""


def cadvisor_parser() -> Peer:
    """Return cAdvisor's parser of the kernel log, in a program that prints what it reads."""
    binary = build_binary("oomparser")
    fields = "victim: pid and name; cgroups of victim and limit; constraint; time"
    return Peer("cAdvisor `oomparser`", "0.53.0", lambda _: [((binary,), {})], _CADVISOR, fields)


PEERS: Final = (
    *(own_agent, bcc_oomkill, bpftrace_oomkill, node_problem_detector),
    *(collector_filelog, cadvisor_parser),
)
