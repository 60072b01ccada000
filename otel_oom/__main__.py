"""``python -m otel_oom``: the same as the ``otel-oom`` command."""

import sys

from otel_oom.cli import main

if __name__ == "__main__":
    sys.exit(main())
