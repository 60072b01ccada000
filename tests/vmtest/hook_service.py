"""The agent's answer to systemd-oomd's prekill hook, alone, as a service by the shipped unit.

    python -m tests.vmtest.hook_service

It prints each cgroup with the pids and names of its processes, which the journal keeps.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Final

from otel_oom.capture.userspace.prekill import PrekillHook
from otel_oom.capture.userspace.processes import list_processes
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.systemd.notify import send_notification
from otel_oom.model.types import TaskList

MARK: Final = "hook-service: "
_AFTER_READY_S: Final = 2.0


def main() -> None:
    """Answer until SIGTERM."""
    # In the agent's order: it looks for daemons once it captures.
    send_notification(os.environ["NOTIFY_SOCKET"], "READY=1")
    time.sleep(_AFTER_READY_S)
    hook = PrekillHook(_list_and_print)
    assert hook.open()
    signal.sigwait({signal.SIGTERM})
    hook.close()


def _list_and_print(path: str) -> TaskList | None:
    cgroups = CgroupMount.find()
    tasks = list_processes(cgroups, path, limit_s=5.0) if cgroups else None
    listed = {task.tgid: task.comm for task in tasks.largest} if tasks else {}
    sys.stdout.write(f"{MARK}{json.dumps([path, listed])}\n")
    sys.stdout.flush()
    return tasks


if __name__ == "__main__":
    # Blocked before the thread of the hook starts, which inherits it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
