"""Kills by programs of user space, which strike before the kernel has to.

They tell nobody but their log. What each writes there is in ``messages``, who of them there is in
``daemons``, how the journal is read in :mod:`~otel_oom.linux.systemd.journal_follower`;
``source`` joins these into events.
"""
