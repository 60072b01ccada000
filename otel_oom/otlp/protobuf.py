"""The official protobuf library without its implementation in Python.

Generated classes import that implementation, which has no use where the one in C (upb) works. It
would be a thirtieth of the agent's memory: 1.2 MB.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

_PYTHON_IMPLEMENTATION: Final = "google.protobuf.internal.python_message"


def import_protobuf() -> None:
    """Import the library; call it before the first generated class is imported."""
    from google.protobuf.internal import api_implementation  # noqa: PLC0415  few commands need it

    if api_implementation.Type() != "upb" or _PYTHON_IMPLEMENTATION in sys.modules:
        return
    sys.modules[_PYTHON_IMPLEMENTATION] = ModuleType(_PYTHON_IMPLEMENTATION)
    try:
        import google.protobuf.internal.builder  # noqa: F401, PLC0415  what generated classes import
    finally:
        # Whoever needs the implementation can import it from now on.
        del sys.modules[_PYTHON_IMPLEMENTATION]
