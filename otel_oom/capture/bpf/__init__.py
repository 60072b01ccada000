"""Capture by BPF: load, attach and read the ring buffer."""
