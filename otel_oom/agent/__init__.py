"""The agent: ingest loop, delivery threads, control socket, watchdog, and its own metrics."""
