"""A plugin of mypy: check the calls of both functions ``replace``, of dataclasses and of structs.

mypy takes structs for dataclasses: it checks no keyword of ``msgspec.structs.replace``, and lets
``dataclasses.replace`` have a struct, which fails at run time.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import FunctionSigContext, Plugin
from mypy.plugins.dataclasses import replace_function_sig_callback
from mypy.types import FunctionLike, Instance, get_proper_type

_OF_STRUCTS = "msgspec.structs.replace"


class ReplacePlugin(Plugin):
    """Derive the signature of ``replace`` from its first argument."""

    def get_function_signature_hook(
        self, fullname: str
    ) -> Callable[[FunctionSigContext], FunctionLike] | None:
        """Return the check of a function ``replace``."""
        if fullname not in {_OF_STRUCTS, "dataclasses.replace"}:
            return None

        def check(context: FunctionSigContext) -> FunctionLike:
            value = get_proper_type(context.api.get_expression_type(context.args[0][0]))
            if isinstance(value, Instance):
                is_struct = value.type.has_base("msgspec.Struct")
                if is_struct != (fullname == _OF_STRUCTS):
                    context.api.fail(
                        f"{fullname}() can't replace fields of {value}", context.context
                    )
            return replace_function_sig_callback(context)

        return check


def plugin(_: str) -> type[Plugin]:
    """Return the plugin for a version of mypy."""
    return ReplacePlugin
