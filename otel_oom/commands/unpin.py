"""``otel-oom unpin``: remove the pinned BPF programs and maps."""

from __future__ import annotations

import argparse
import sys

from otel_oom.commands import Subparsers, add_pin_dir


def add_parser(subparsers: Subparsers) -> None:
    """Add ``unpin``."""
    parser = subparsers.add_parser("unpin", help="remove the pinned BPF programs and maps")
    add_pin_dir(parser, "bpffs directory of the pins")
    parser.set_defaults(command=_unpin)


def _unpin(arguments: argparse.Namespace) -> int:
    from otel_oom.capture.bpf.bpffs import BpffsError  # noqa: PLC0415  each command imports what it needs
    from otel_oom.capture.bpf.libbpf import Libbpf  # noqa: PLC0415  likewise
    from otel_oom.capture.bpf.pinning import Pins  # noqa: PLC0415  likewise

    folder = arguments.pin_dir
    if not folder.exists():
        sys.stdout.write(f"Nothing is pinned in {folder}\n")
        return 0
    try:
        pins = Pins(folder, Libbpf())
    except BpffsError as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
    unread = pins.unpin()
    pins.close()
    sys.stdout.write(f"Removed the pins in {folder}\n")
    if unread:
        sys.stderr.write(f"{unread} unread records were dropped\n")
    return 0
