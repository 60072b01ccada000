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
StandardError=file:{prefix}{folder}/stderr
ExecStart={chroot}/bin/bash {folder}/guest.sh
END
{exec}
"""

_OWN_ROOT: Final = "exec /lib/systemd/systemd --unit=guest.service"
_HOST: Final = "/host"
_OTHER_ROOT: Final = """\
mkdir -p /run/other /run/base /run/systemd/journald.conf.d
# Its journal stays where both roots have it.
printf '[Journal]\\nStorage=volatile\\n' > /run/systemd/journald.conf.d/guest.conf
mount -t tmpfs base /run/base
mkdir /run/base/upper /run/base/work
mount -t overlay other -o lowerdir={root},upperdir=/run/base/upper,workdir=/run/base/work /run/other
mkdir /run/other{host}
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --rbind / /run/other{host}
for name in dev proc sys run; do mount --rbind /$name /run/other/$name; done
exec chroot /run/other /lib/systemd/systemd --unit=guest.service
"""


def boot_arguments(
    folder: Path, script: str, repository: Path, root: Path | None = None
) -> list[str]:
    """Return further arguments for vng, by which systemd runs ``script`` as its one service.

    ``root`` has a systemd of its own; then this machine's files, and ``script``, are below /host.
    """
    (folder / "guest.sh").write_text(f"{script}\n", encoding="utf-8")
    text = _FIRST.replace("{folder}", shlex.quote(str(folder)))
    other = _OTHER_ROOT.replace("{root}", shlex.quote(str(root))).replace("{host}", _HOST)
    text = text.replace("{exec}", other if root else _OWN_ROOT)
    text = text.replace("{chroot}", f"/usr/sbin/chroot {_HOST} " if root else "")
    text = text.replace("{prefix}", _HOST if root else "")
    text = text.replace("{repository}", shlex.quote(str(repository)))
    (folder / _HOOK).write_text(text, encoding="utf-8")
    return ["--no-virtme-ng-init", "--append", f"BASH_ENV={folder / _HOOK}"]
