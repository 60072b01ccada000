"""The reference of the public Python interface, from its signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any, Final

import otel_oom
from otel_oom.pipeline import OomEvents

_SECTION: Final = re.compile(r"(?m)^(Args|Raises):\n")
_ITEM: Final = re.compile(r"(?m)^ {4}(\w+): ((?:.+\n?)(?: {5,}.+\n?)*)")
_TITLES: Final = {"Args": "argument", "Raises": "error"}


def describe_api() -> Iterator[str]:
    """Yield the lines of the reference."""
    yield from _describe("otel_oom.watch", otel_oom.watch)
    yield from _describe_class("otel_oom.Watch", otel_oom.Watch)
    yield from _describe_class("otel_oom.Event", otel_oom.Event)
    yield from _describe("otel_oom.pipeline.OomEvents", OomEvents)
    yield from _describe_methods("OomEvents", OomEvents)


def _describe(name: str, value: Callable[..., object]) -> Iterator[str]:
    signature = inspect.signature(value)
    yield f"\n### `{name}`\n\n```python\n{name}(\n    *,"
    for parameter in signature.parameters.values():
        yield f"    {parameter.name}: {parameter.annotation} = {parameter.default!r},"
    result = signature.return_annotation
    yield ")\n```" if inspect.isclass(value) else f") -> {result}\n```"
    if inspect.isclass(value):
        yield f"\n{_prose(value)}"
        yield from _describe_sections(value.__init__, with_summary=False)
    else:
        yield from _describe_sections(value, with_summary=True)


def _describe_class(name: str, class_: type[Any]) -> Iterator[str]:
    yield f"\n### `{name}`\n\n{_prose(class_)}"
    if class_ is otel_oom.Event:
        meanings = _read_field_docstrings(class_)
        yield "\n| field | type | |\n|---|---|---|"
        for field in fields(class_):
            if not field.name.startswith("_"):
                yield f"| `{field.name}` | `{field.type}` | {_plain(meanings[field.name])} |"
    yield from _describe_methods(name.rpartition(".")[2], class_)


def _read_body(class_: type) -> list[ast.stmt]:
    module = ast.parse(inspect.getsource(class_))
    return [part for node in module.body if isinstance(node, ast.ClassDef) for part in node.body]


def _read_field_docstrings(class_: type) -> dict[str, str]:
    """Return the strings below the fields of a class."""
    return {
        field.target.id: below.value.value
        for field, below in pairwise(_read_body(class_))
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _describe_methods(name: str, class_: type) -> Iterator[str]:
    for method_name, method in vars(class_).items():
        if inspect.isfunction(method) and not method_name.startswith("_"):
            _, *parameters = inspect.signature(method).parameters.values()
            result = inspect.signature(method).return_annotation
            words = ", ".join(str(parameter).replace("'", "") for parameter in parameters)
            yield f"\n#### `{name}.{method_name}({words}) -> {result}`"
            yield from _describe_sections(method, with_summary=True)


def _describe_sections(function: Callable[..., object], *, with_summary: bool) -> Iterator[str]:
    text, *sections = _SECTION.split(inspect.getdoc(function) or "")
    if with_summary and text.strip():
        yield f"\n{_plain(text)}"
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        yield f"\n| {_TITLES[title]} | |\n|---|---|"
        for name, meaning in _ITEM.findall(section):
            yield f"| `{name}` | {_plain(meaning)} |"


def _prose(value: object) -> str:
    return _plain(_SECTION.split(inspect.getdoc(value) or "")[0])


def _plain(text: str) -> str:
    """Return the paragraphs of a docstring in Markdown."""
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
