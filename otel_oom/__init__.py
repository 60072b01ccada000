"""Every OOM kill of a Linux host as OpenTelemetry logs and spans.

::

    cli.py __main__.py      words -> command
    commands/               what a person runs: run, history/ (events, show), queue, doctor, demo, …
    agent/                  `otel-oom run`: lifecycle, ingest loop, delivery threads, control socket

    capture/                1. kernel -> events        bpf/  bcc/  kmsg/  userspace/  panic/
    snapshot/               2. /proc and cgroup state at the moment of the kill
    store/                  3. event log, outbox, dead letters             recovery/
    enrich/                 4. whose process, which service, what to do    advice/
    otlp/                   5. events -> OTLP
    export/                 6. OTLP -> backend

    model/                  the types that travel through 1-6 (no I/O)
    linux/                  readers of a Linux host, no policy
    config/                 the agent's own environment variables, OTLP's and systemd's

A module imports only from below: cli > commands > agent > export > otlp > enrich > store >
snapshot > capture > linux > config > model.
"""

__version__ = "0.1.0"
