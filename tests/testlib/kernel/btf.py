"""The type information of the running kernel, as `bpftool` prints it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

VMLINUX: Final = "/sys/kernel/btf/vmlinux"

_HEAD: Final = re.compile(r"\[(\d+)\] (\w+) '([^']*)'(.*)")
_WORD: Final = re.compile(r"(\w+)=(\w+)")
_LINE: Final = re.compile(r"\t'([^']*)' (.*)")


@dataclass
class Type:
    """A type: its kind by the name of BTF, its name if any, numbers, and members or values."""

    kind: str
    name: str
    numbers: dict[str, str]
    members: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Member:
    """A member of a structure, or of an anonymous one in it; ``offset`` is in bytes."""

    name: str
    type: Type
    offset: int


class Btf:
    """All types of the kernel."""

    def __init__(self) -> None:
        """Read them.

        Raises:
            OSError: there is no bpftool.
            subprocess.CalledProcessError: the running kernel has no type information.
        """
        dumped = subprocess.run(
            ["bpftool", "btf", "dump", "file", VMLINUX],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"},
        ).stdout
        self._types: dict[int, Type] = {}
        self.named: dict[tuple[str, str], Type] = {}
        for line in dumped.splitlines():
            if head := _HEAD.match(line):
                name = "" if head[3] == "(anon)" else head[3]
                latest = Type(head[2], name, dict(_WORD.findall(head[4])))
                self._types[int(head[1])] = latest
                if name:
                    self.named.setdefault((head[2], name), latest)
            elif member := _LINE.match(line):
                latest.members.append((member[1], dict(_WORD.findall(member[2]))))

    def target(self, type_: Type | dict[str, str]) -> Type | None:
        """Return the type that a pointer, typedef, element or member has; None is `void`."""
        numbers = type_.numbers if isinstance(type_, Type) else type_
        return self._types.get(int(numbers["type_id"]))

    def plain(self, type_: Type | None) -> Type | None:
        """Return a type without typedefs and qualifiers."""
        while type_ and type_.kind in {"TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG"}:
            type_ = self.target(type_)
        return type_

    def members(self, structure: Type, base: int = 0) -> Iterator[Member]:
        """Yield the members of a structure, and those of anonymous structures in it."""
        for name, numbers in structure.members:
            type_ = self.plain(self.target(numbers))
            assert type_ is not None
            offset = base + int(numbers["bits_offset"]) // 8
            if name == "(anon)":
                yield from self.members(type_, offset)
            else:
                yield Member(name, type_, offset)

    def size(self, type_: Type | None) -> int:
        """Return the size of a value in bytes."""
        type_ = self.plain(type_)
        assert type_ is not None
        if type_.kind == "PTR":
            return 8
        if type_.kind == "ARRAY":
            return int(type_.numbers["nr_elems"]) * self.size(self.target(type_))
        return int(type_.numbers["size"])

    def enum(self, value: str) -> Type:
        """Return the enum that has this value."""
        return next(
            type_
            for type_ in self._types.values()
            if type_.kind == "ENUM" and any(name == value for name, _ in type_.members)
        )

    def passes(self, tracepoint: str) -> list[str]:
        """Return the parameters of a tracepoint as declarations in C."""
        function = self.target(self.named["TYPEDEF", f"btf_trace_{tracepoint}"])
        assert function is not None
        prototype = self.target(function)
        assert prototype is not None
        return [self.declared(self.target(of), "it") for _, of in prototype.members[1:]]

    def declared(self, type_: Type | None, name: str) -> str:
        """Return the declaration in C; a pointer to a structure needs no definition of it."""
        type_ = self.plain(type_)
        if type_ is None:
            return f"void {name}"
        if type_.kind == "PTR":
            to = self.plain(self.target(type_))
            if to and to.kind == "STRUCT" and to.name:
                return f"struct {to.name} *{name}"
            return f"void *{name}"
        if type_.kind == "ARRAY":
            return self.declared(self.target(type_), f"{name}[{type_.numbers['nr_elems']}]")
        if type_.kind == "STRUCT" and not type_.name:
            inside = " ".join(
                f"{self.declared(member.type, member.name)};" for member in self.members(type_)
            )
            return f"struct {{ {inside} }} {name}"
        named = {"ENUM": "int", "STRUCT": f"struct {type_.name}"}
        return f"{named.get(type_.kind, type_.name)} {name}"
