"""What a kernel's log tells of OOM kills, of any kernel since 2.6, whoever keeps it.

Lines go in, events come out; where lines come from is :mod:`otel_oom.capture`'s matter (the
kernel's own device) and :mod:`otel_oom.commands.replay`'s (files).
"""
