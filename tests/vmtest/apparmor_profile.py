"""The AppArmor profile that containerd gives to a container by default.

containerd has its template in its program (contrib/apparmor/template.go), and fills it in when it
starts the first container. Docker's has the same denials.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

PROFILE: Final = "cri-containerd.apparmor.d"
"""Its name in pods."""

_TEMPLATE: Final = re.compile(rb"\{\{range \$value := \.Imports\}\}\n.*?\n\}\n", re.DOTALL)
_IMPORTS: Final = {
    "Imports": "#include <tunables/global>",
    "InnerImports": "#include <abstractions/base>",
}


def read_profile() -> str:
    """Return the profile of the installed containerd, with all its rules.

    Raises:
        ValueError: the program has no template, or one with further parts.
    """
    program = Path(shutil.which("containerd", path="/usr/bin:/usr/sbin") or "containerd")
    match = _TEMPLATE.search(program.read_bytes())
    if not match:
        raise ValueError(f"{program} has no template of a profile")
    text = match[0].decode("utf-8")
    for name, line in _IMPORTS.items():
        text = re.sub(
            rf"(?s)\{{\{{range \$value := \.{name}\}}\}}.*?\{{\{{end\}}\}}", line, text, count=1
        )
    # Each condition is an older version of apparmor_parser.
    text = re.sub(r"\{\{(?:if ge \.Version \d+|end)\}\}\n", "", text)
    text = text.replace("{{.Name}}", PROFILE).replace("{{.DaemonProfile}}", "unconfined")
    if "{{" in text:
        raise ValueError(f"the template of {program} has further parts: {text}")
    return text
