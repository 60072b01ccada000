"""One environment variable: its name, its text, and the errors about it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import unquote

from msgspec import Struct

from otel_oom.config.redaction import redact_value

_Value = TypeVar("_Value")
Warn = Callable[[str], None]
"""What gets a sentence for the user about a value that is ignored."""

_LEVELS: Final = {
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "critical": logging.CRITICAL,
}
"""The first is the default."""

_LOG = logging.getLogger(__name__)


def log_warning(message: str) -> None:
    """Log a sentence about a value."""
    _LOG.warning("%s", message)


class ConfigError(ValueError):
    """An unusable value; the message names the variable and the accepted values."""


class Variable(Struct, frozen=True):
    """The text of a variable, and the name under which the user set it."""

    name: str
    text: str

    def error(self, accepted: str, redact: Callable[[str], str] = redact_value) -> ConfigError:
        """Return the error that names the ``accepted`` values, without secrets."""
        shown = redact(self.text)
        cut = "…" if shown != self.text else ""
        value = f"={shown + cut!r}" if shown else ""
        return ConfigError(f"{self.name}{value} is invalid: use {accepted}.")

    def choice(self, *names: str) -> str:
        """Return the text in lower case. Raises ConfigError unless it is one of ``names``."""
        if self.text.lower() not in names:
            raise self.error(" or ".join(names))
        return self.text.lower()

    def flag(self) -> bool:
        """Parse ``true`` or ``false``; empty is false. Raises ConfigError."""
        return bool(self.text) and self.choice("true", "false") == "true"

    def positive(self, max_value: float, accepted: str) -> float:
        """Parse a number above 0, at most ``max_value``. Raises ConfigError."""
        try:
            value = float(self.text)
        except ValueError:
            value = 0.0
        if not 0 < value <= max_value:
            raise self.error(accepted)
        return value

    def choice_or_warn(self, warn: Warn, default: str, *names: str) -> str:
        """Return the text in lower case; warn and return ``default`` for another than these."""
        return self._or_warn(lambda: self.choice(default, *names), default, warn)

    def flag_or_warn(self, warn: Warn) -> bool:
        """Parse ``true`` or ``false``; warn and return false for another text."""
        return self._or_warn(self.flag, default=False, warn=warn)

    def positive_or_warn(
        self, warn: Warn, max_value: float, accepted: str, default: float
    ) -> float:
        """Parse a number above 0; warn and return ``default`` for another text."""
        return self._or_warn(lambda: self.positive(max_value, accepted), default, warn)

    def whole_or_warn(self, warn: Warn, max_value: float, accepted: str) -> int | None:
        """Parse a whole number; warn and return ``None`` for another text."""
        is_number = self.text.isascii() and self.text.isdigit() and int(self.text) <= max_value
        if not is_number:
            warn(f"{self.error(accepted)} It is ignored.")
        return int(self.text) if is_number else None

    def _or_warn(self, parse: Callable[[], _Value], default: _Value, warn: Warn) -> _Value:
        try:
            return parse()
        except ConfigError as error:
            warn(f"{error} It is ignored.")
            return default

    def pairs(self, header: re.Pattern[str] | None = None) -> tuple[tuple[str, str], ...]:
        r"""Parse ``key=value,key=value``, percent-encoded (W3C Baggage).

        Raises:
            ConfigError: a pair is incomplete, or ``header`` does not match ``key\nvalue``.
        """
        return tuple(self._pair(item, header) for item in self.text.split(",") if item.strip())

    def _pair(self, item: str, header: re.Pattern[str] | None) -> tuple[str, str]:
        key, separator, value = (unquote(part.strip()) for part in item.partition("="))
        value = value.encode("utf-8", "replace").decode()
        if not (separator and key) or (header and not header.fullmatch(f"{key}\n{value}")):
            # Values are often secret: the message shows the variable's name alone.
            where = ", in characters that a header can carry" if header else ""
            raise ConfigError(
                f"{self.name} is invalid: use key=value pairs, separated by commas{where}."
            )
        return key, value


def read_variable(environ: Mapping[str, str], *names: str, default: str = "") -> Variable:
    """Return the first of ``names`` that is set, else the last one with ``default``.

    An empty value counts as unset (Environment Variable Specification).
    """
    for name in names:
        if text := environ.get(name, "").strip():
            return Variable(name, text)
    return Variable(names[-1], default)


def read_log_level(environ: Mapping[str, str], warn: Warn) -> int:
    """Return the level of the agent's own log; ``OTEL_LOG_LEVEL`` has the names of Python."""
    variable = read_variable(environ, "OTEL_LOG_LEVEL", default="info")
    return _LEVELS[variable.choice_or_warn(warn, *_LEVELS)]
