"""Kills by programs of user space, which strike before the kernel has to.

They tell nobody but their log. What each writes there is in :mod:`~otel_oom.killers.forms`, who of
them there is in :mod:`~otel_oom.killers.installed`, how the journal is read in
:mod:`~otel_oom.killers.follow`; :class:`~otel_oom.killers.source.JournalSource` joins these into
events.
"""
