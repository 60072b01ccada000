"""Values that travel through the stages: no I/O."""
