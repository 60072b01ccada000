"""Run the agent: lifecycle, ingest loop, delivery threads, control socket and its own metrics."""
