"""Capture from the kernel log, /dev/kmsg."""
