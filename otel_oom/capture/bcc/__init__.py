"""Capture by BCC, which compiles the BPF program on the host."""
