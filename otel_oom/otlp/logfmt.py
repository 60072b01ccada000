"""The candidates as text: a line each, in the form that is called logfmt.

One value rather than five arrays side by side, for a person reads it as it stands, and a backend
that knows no arrays keeps it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_oom.enrich.badness import RankedTask
from otel_oom.model.text import quote_text

_CHARS: Final = 4096
_PATH_CHARS: Final = 200


def candidate_lines(candidates: Sequence[RankedTask]) -> str:
    """A line for each, the largest first; what is not known is left out.

    Only names that are full of escapes make it so long that the last ones are left out.
    """
    lines: list[str] = []
    left = _CHARS
    for line in map(_line, candidates):
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _line(one: RankedTask) -> str:
    candidate = one.candidate
    fields = {
        "pid": candidate.tgid,
        "comm": quote_text(candidate.comm),
        "resident": candidate.resident,
        "swap": candidate.swap or None,
        "points": one.points,
        "score_adj": candidate.score_adj,
        "uid": candidate.uid,
        "memcg": None if candidate.memcg is None else quote_text(_end(candidate.memcg)),
        "killed": "true" if one.killed else None,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def _end(path: str) -> str:
    return path if len(path) <= _PATH_CHARS else f"…{path[-_PATH_CHARS:]}"
