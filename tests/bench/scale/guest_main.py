"""The start of the measurement in a guest, where Python starts without its packages.

python -m tests.bench.scale.guest_main FOLDER
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    command = (sys.executable, "-B", "-m", "tests.bench.scale.guest_agent", sys.argv[1])
    os.execv(sys.executable, command)  # noqa: S606  in place of this process
