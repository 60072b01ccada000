"""OOM kills in kernel logs of any kernel since 2.6, whoever keeps the log.

Lines go in, events come out. Lines come from :mod:`otel_oom.capture` (the kernel's own device) and
:mod:`otel_oom.commands.replay` (files).

A message format has its type in ``line_types.py``, and its :class:`.line_types.LineFormat` in
``line_parser.py``, or in ``kill_lines.py`` if it reports a kill.
"""
