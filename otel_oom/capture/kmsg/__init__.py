"""Capture from the kernel log, /dev/kmsg."""

from typing import Final

SOURCE: Final = "kmsg"
"""The name of the source, for those who need not import it."""
