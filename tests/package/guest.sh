# Runs in a guest as a service of its systemd: the life of the package, with real kills.
# Each step leaves its files in a folder of its own, which the tests judge outside.
cd /mnt || exit 1
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# note STEP: what is there after this step.
note() {
    cut -d' ' -f1 /proc/uptime > uptime
    dpkg-query -W -f '${Version} ${db:Status-Status}\n' otel-oom > package 2>&1
    systemctl show otel-oom > unit
    systemctl is-enabled otel-oom > enabled 2>&1
    bpftool --json prog show > programs
    find /sys/fs/bpf -mindepth 1 > pins
    find / -xdev -name '*otel-oom*' > files
    pgrep_agent > agents
    cat /etc/default/otel-oom > default 2>&1
    grep ^oom_kill /proc/vmstat > vmstat
    journalctl --boot --output=json --unit=otel-oom > journal
    journalctl --boot --dmesg --output=cat --grep='Killed process' > kernel
    otel-oom events --last 100 --json > events 2>&1
    ls -R -l /var/lib/private > state 2>&1
}

pgrep_agent() {
    for cmdline in /proc/[0-9]*/cmdline; do
        tr '\0' ' ' < "$cmdline" 2>/dev/null | grep 'otel-oom run'
    done
}

# begin STEP: enter its folder.
begin() {
    mkdir "/mnt/$1"
    cd "/mnt/$1" || exit 1
}

# kill_one NAME: a unit reaches its limit; wait until the agent lists the victim.
kill_one() {
    systemctl start "victim@$1.service" 2> victim
    for _ in $(seq 90); do
        otel-oom events --last 100 --json 2>/dev/null | grep -q "victim@$1.service" && return
        sleep 1
    done
}

# await_unload: the kernel frees a program once no CPU can run it any more.
await_unload() {
    for _ in $(seq 60); do
        bpftool --json prog show | tr '{' '\n' | grep '"name"' | grep -qv '"name":"sd_' || return
        sleep 0.5
    done
}

cat > /etc/systemd/system/victim@.service << 'END'
[Service]
Type=oneshot
ExecStart=/usr/bin/tail /dev/zero
MemoryMax=16M
MemorySwapMax=0
END

begin before
note
begin installed
apt-get install --yes /mnt/old/*.deb > apt 2>&1
cp /proc/uptime apt-uptime
kill_one first
note
begin upgraded
echo '# Changed by the administrator.' >> /etc/default/otel-oom
apt-get install --yes /mnt/new/*.deb > apt 2>&1
kill_one second
note
begin removed
apt-get remove --yes otel-oom > apt 2>&1
await_unload
note
begin purged
apt-get purge --yes otel-oom > apt 2>&1
note
touch /mnt/complete
