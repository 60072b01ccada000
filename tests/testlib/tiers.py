"""The tiers of whole folders of tests; the Makefile has those that a goal does not collect."""

from __future__ import annotations

from typing import Final

FOLDER_TIERS: Final = {
    "cluster": ("root", "servers"),
    "e2e": ("root", "servers"),
    "fault_injection": ("root", "slow"),
    "fuzz": ("slow",),
    "system": ("root",),
    "vmtest": ("vm",),
}
