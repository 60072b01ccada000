"""`make bench-peers`: otel-oom and other programs that report OOM kills, in one run."""
