"""Kills by userspace OOM daemons, which act before the kernel has to.

Their log is the only record. ``messages`` parses what each daemon writes, ``daemons`` finds the
installed ones, :mod:`~otel_oom.linux.systemd.journal_follower` reads the journal, ``verifier``
matches a claimed kill to a death, and ``source`` joins these into events.
"""
