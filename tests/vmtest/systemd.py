"""A guest whose first process is systemd, without the services of this machine.

vng's own way needs a writable folder below the machine's /lib. Here bash, which runs vng's first
script, reads the file that ``BASH_ENV`` names before anything else; the kernel's command line is
its environment.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

_HOOK: Final = "first.sh"

_FIRST: Final = """\
[ $$ = 1 ] || return
unset BASH_ENV
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=0755 run /run
# The repository may be below /tmp itself.
mkdir /run/repository
mount --bind {repository} /run/repository
mount -t tmpfs tmp /tmp
mkdir -p {repository}
mount --bind /run/repository {repository}
mount --bind /dev/null /etc/fstab
mkdir -p {folder}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 virtme.initmount0 {folder}
insmod "$virtme_link_mods/kernel/drivers/block/brd.ko" rd_nr=1 rd_size=65536
mkdir -p /run/systemd/system
cat > /run/systemd/system/guest.service << 'END'
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service
After=systemd-journald.service
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate
[Service]
OOMScoreAdjust=-1000
StandardOutput=null
StandardError=file:{folder}/stderr
ExecStart=/bin/bash {folder}/guest.sh
END
exec /lib/systemd/systemd --unit=guest.service
"""


def boot_arguments(folder: Path, script: str, repository: Path) -> list[str]:
    """Return further arguments for vng, by which systemd runs ``script`` as its one service."""
    (folder / "guest.sh").write_text(f"{script}\n", encoding="utf-8")
    text = _FIRST.replace("{folder}", shlex.quote(str(folder)))
    text = text.replace("{repository}", shlex.quote(str(repository)))
    (folder / _HOOK).write_text(text, encoding="utf-8")
    return ["--no-virtme-ng-init", "--append", f"BASH_ENV={folder / _HOOK}"]
