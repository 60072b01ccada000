"""A plugin of mypy: check keywords of ``msgspec.structs.replace`` like ``dataclasses.replace``."""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import FunctionSigContext, Plugin
from mypy.plugins.dataclasses import replace_function_sig_callback
from mypy.types import FunctionLike


class ReplacePlugin(Plugin):
    """Derive the signature of ``replace`` from its first argument."""

    def get_function_signature_hook(
        self, fullname: str
    ) -> Callable[[FunctionSigContext], FunctionLike] | None:
        """Return mypy's own callback for dataclasses, which structs are to it."""
        return replace_function_sig_callback if fullname == "msgspec.structs.replace" else None


def plugin(_: str) -> type[Plugin]:
    """Return the plugin for a version of mypy."""
    return ReplacePlugin
