"""Symbols of user frames from real files."""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from otel_oom.enrich.symbols import child
from otel_oom.enrich.symbols.child import SymbolChild
from otel_oom.enrich.symbols.request import NO_SYMBOL, FrameSymbol, SymbolRequest
from otel_oom.enrich.symbols.time_budget import TimeBudget
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import UserFrame
from tests.testlib.opens import watch_opens
from tests.testlib.require import require
from tests.testlib.wait import wait_until

CODE = """
void leave(void) __attribute__((noreturn));
__attribute__((noinline)) void second(void) { __asm__ volatile("nop"); leave(); }
__attribute__((noinline)) static void unseen(void) { __asm__ volatile("nop"); }
void (*user)(void) = unseen;
"""


class DlInfo(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("start", ctypes.c_void_p),
    )


def symbolizer_of(root: Path = Path("/")) -> UserSymbolizer:
    """Return a symbolizer that waits for a busy machine."""
    return UserSymbolizer(root, timeout_s=60)


@pytest.fixture(autouse=True)
def unlimited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimeBudget, "allows", lambda *_: True)


def output(*command: str | Path) -> str:
    """Return the output of a program."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mapped(address: int) -> tuple[Path, int]:
    """Return the file of an address of this process, and the offset in it."""
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        for line in maps:
            match = re.match(r"(\w+)-(\w+) \S+ (\w+) \S+ \d+ +(/.*)", line)
            if match and int(match[1], 16) <= address < int(match[2], 16):
                return Path(match[4]), address - int(match[1], 16) + int(match[3], 16)
    raise AssertionError("the address is in no file")


def build(folder: Path, *flags: str, build_id: str = "sha1") -> Path:
    """Build a library whose function ``second`` ends with a call."""
    require(shutil.which("clang") and shutil.which("objcopy"), "clang and binutils are needed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "code.c").write_text(CODE, encoding="ascii")
    library = folder / "libcode.so.1"
    common = ["-O1", "-shared", "-nostdlib", "-fPIC", f"-Wl,--build-id={build_id}"]
    subprocess.run(["clang", *common, *flags, folder / "code.c", "-o", library], check=True)
    return library


def build_id_of(path: Path) -> str:
    """Return the build id as the kernel has it: 20 bytes, padded with zeros."""
    (digits,) = re.findall(r"Build ID: (\w+)", output("readelf", "-n", path))
    return str(digits).ljust(40, "0")


def code(path: Path) -> dict[str, tuple[int, int]]:
    """Return the file offset and size of each function."""
    (section,) = re.findall(r" \.text +PROGBITS +(\w+) (\w+)", output("readelf", "-WS", path))
    shift = int(section[0], 16) - int(section[1], 16)
    symbols = re.findall(r"(\w+) (\w+) [tT] (\w+)", output("nm", "-S", path))
    return {name: (int(start, 16) - shift, int(size, 16)) for start, size, name in symbols}


def test_functions_of_this_process_have_the_names_of_dladdr() -> None:
    require(shutil.which("readelf"), "readelf prints the build id")
    # Not None: in a program that is loaded at a fixed address, some names lead to its own code.
    library = ctypes.CDLL("libc.so.6")
    library.dladdr.argtypes = (ctypes.c_void_p, ctypes.POINTER(DlInfo))
    for name in ("malloc", "qsort", "strtol"):
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        assert address is not None
        info = DlInfo()
        assert library.dladdr(address + 1, ctypes.byref(info))
        path, offset = mapped(address)
        frame = UserFrame(build_id_of(path), offset + 1)
        (line,) = symbolizer_of().symbolize([frame])
        match = re.fullmatch(r"(\w+)\+(0x[0-9a-f]+) \((.*)\)", line)
        assert match, line
        same = ctypes.cast(getattr(library, match[1]), ctypes.c_void_p).value
        assert same == info.start
        assert int(match[2], 16) == address + 1 - info.start
        assert match[3] == path.name


def test_return_address_belongs_to_the_call_before_it(tmp_path: Path) -> None:
    library = build(tmp_path / "usr/lib")
    start, size = code(library)["second"]
    behind = UserFrame(build_id_of(library), start + size)
    innermost, outer = symbolizer_of(tmp_path).symbolize([behind, behind])
    assert outer == f"second+{size:#x} (libcode.so.1)"
    assert not innermost.startswith("second")


def test_code_with_another_address_than_offset_is_named(tmp_path: Path) -> None:
    library = build(tmp_path / "lib", "-Wl,-Ttext-segment=0x700000")
    offset, _ = code(library)["second"]
    assert offset < 0x700000
    frame = UserFrame(build_id_of(library), offset + 1)
    assert symbolizer_of(tmp_path).symbolize([frame]) == ("second+0x1 (libcode.so.1)",)


@pytest.mark.parametrize("build_id", ["md5", "0x0123456789abcdef", "0x" + "5a" * 20])
def test_build_id_of_any_length_is_found(tmp_path: Path, build_id: str) -> None:
    library = build(tmp_path / "lib", build_id=build_id)
    frame = UserFrame(build_id_of(library), code(library)["second"][0])
    assert symbolizer_of(tmp_path).symbolize([frame]) == ("second+0x0 (libcode.so.1)",)


def test_symbols_come_from_the_debug_file(tmp_path: Path) -> None:
    library = build(tmp_path / "lib")
    digits, functions = build_id_of(library), code(library)
    debug = tmp_path / "usr/lib/debug/.build-id" / digits[:2] / f"{digits[2:]}.debug"
    debug.parent.mkdir(parents=True)
    output("objcopy", "--only-keep-debug", library, debug)
    output("strip", library)
    frames = [UserFrame(digits, functions[name][0]) for name in ("unseen", "second")]
    frames[1] = UserFrame(digits, frames[1].offset + 1)
    both = symbolizer_of(tmp_path).symbolize(frames)
    assert both == ("unseen+0x0 (libcode.so.1)", "second+0x1 (libcode.so.1)")
    debug.unlink()
    exported = symbolizer_of(tmp_path).symbolize(frames)
    assert exported == (f"libcode.so.1+{frames[0].offset:#x}", "second+0x1 (libcode.so.1)")


def test_executables_and_container_roots_are_searched(tmp_path: Path) -> None:
    host, inside = tmp_path / "host", tmp_path / "inside"
    program = build(inside / "srv")
    offset = code(program)["second"][0]
    frame = UserFrame(build_id_of(program), offset)
    (inside / "usr/lib").mkdir(parents=True)
    host.mkdir()
    bare = (f"{frame.build_id}+{offset:#x}",)
    named = ("second+0x0 (libcode.so.1)",)
    symbolizer = symbolizer_of(host)
    assert symbolizer.symbolize([frame]) == bare
    assert symbolizer.symbolize([frame], ["/srv/other", "srv/libcode.so.1"], [inside]) == bare
    assert symbolizer.symbolize([frame], ["/srv/libcode.so.1"], [inside]) == named
    program.rename(inside / "usr/lib/libcode.so.1")
    assert symbolizer_of(host).symbolize([frame], [], [tmp_path / "gone", inside]) == named


def test_directories_of_the_loader_cache_are_searched(tmp_path: Path) -> None:
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin")
    require(ldconfig, "ldconfig writes the cache")
    library = build(tmp_path / "opt/vendor", "-Wl,-soname=libcode.so.1")
    frame = UserFrame(build_id_of(library), code(library)["second"][0])
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/opt/vendor\n", encoding="ascii")
    assert symbolizer_of(tmp_path).symbolize([frame])[0].startswith(frame.build_id)
    output(str(ldconfig), "-X", "-r", tmp_path, "-f", "/etc/ld.so.conf", "-C", "/etc/ld.so.cache")
    assert symbolizer_of(tmp_path).symbolize([frame]) == ("second+0x0 (libcode.so.1)",)


def test_another_version_at_the_same_path_gives_no_name(tmp_path: Path) -> None:
    library = build(tmp_path / "lib", build_id="0x01")
    frame = UserFrame("02".ljust(40, "0"), code(library)["second"][0])
    line = f"{frame.build_id}+{frame.offset:#x}"
    assert symbolizer_of(tmp_path).symbolize([frame], ["/lib/libcode.so.1"]) == (line,)


def test_a_frame_without_a_file_is_looked_up_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    symbolizer = symbolizer_of(tmp_path)
    library = build(tmp_path / "elsewhere")
    frame = UserFrame(build_id_of(library), code(library)["second"][0])
    bare = (f"{frame.build_id}+{frame.offset:#x}",)
    assert symbolizer.symbolize([frame]) == bare
    library = library.rename(tmp_path / "libcode.so.1")
    (tmp_path / "lib").symlink_to(".")
    now += 59
    assert symbolizer.symbolize([frame]) == bare
    now += 2
    named = ("second+0x0 (libcode.so.1)",)
    assert symbolizer.symbolize([frame]) == named
    library.unlink()
    now += 3600
    assert symbolizer.symbolize([frame]) == named, "what was named once needs no file"


def test_hostile_files_are_not_opened(tmp_path: Path) -> None:
    """A pipe would block, and a device may have effects."""
    (tmp_path / "lib").mkdir()
    os.mkfifo(tmp_path / "lib/libpipe.so")
    os.mkfifo(tmp_path / "program")
    (tmp_path / "link").symlink_to("program")
    (tmp_path / "lib/libzero.so").symlink_to("/dev/zero")
    (tmp_path / "lib/libnone.so").write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 8192)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(b"/" * (1 << 20))
    frame = UserFrame("ab" * 20, 1)
    executables = ["/program", "/link", "/lib/libzero.so", "/a\0b", "/lib", "…/x", ""]
    with (
        watch_opens(tmp_path / "program") as was_opened,
        watch_opens(tmp_path / "lib/libpipe.so") as was_library_opened,
    ):
        lines = symbolizer_of(tmp_path).symbolize([frame], executables, [tmp_path])
        assert lines == ("ab" * 20 + "+0x1",)
        assert not was_opened()
        assert not was_library_opened()


def test_no_link_in_a_container_leads_to_a_file_of_the_host(tmp_path: Path) -> None:
    host, inside = tmp_path / "host", tmp_path / "inside"
    library = build(host / "private")
    inside.mkdir()
    (inside / "absolute").symlink_to(library)
    (inside / "relative").symlink_to("../host/private/libcode.so.1")
    (inside / "magic").symlink_to("/proc/self/root" + str(library))
    (inside / "lib").symlink_to(library.parent)
    frame = UserFrame(build_id_of(library), code(library)["second"][0])
    executables = ["/absolute", "/relative", "/magic", "/../host/private/libcode.so.1"]
    lines = symbolizer_of(inside).symbolize([frame], executables, [inside])
    assert lines == (f"{frame.build_id}+{frame.offset:#x}",)


@pytest.mark.slow
def test_a_tenant_names_no_function_of_another(tmp_path: Path) -> None:
    """Build ids are public: an image of the same base has them."""
    library = build(tmp_path / "good/lib", build_id="0x" + "5a" * 20)
    for name in ("bad", "host"):
        (tmp_path / name).mkdir()
    flags = ["-shared", "-nostdlib", "-Wl,--build-id=0x" + "5a" * 20]
    (tmp_path / "bad.c").write_text(CODE.replace("second", "forged"), encoding="ascii")
    forged = tmp_path / "bad/libcode.so.1"
    subprocess.run(["clang", "-O1", "-fPIC", *flags, tmp_path / "bad.c", "-o", forged], check=True)
    symbolizer = symbolizer_of(tmp_path / "host")
    frame = UserFrame("5a" * 20, code(library)["second"][0])
    for name, function in (("bad", "forged"), ("good", "second"), ("bad", "forged")):
        for executables in (["/libcode.so.1"], ["/bin/../libcode.so.1", "/lib/libcode.so.1"]):
            lines = symbolizer.symbolize([frame], executables, [tmp_path / name], name)
            assert lines == (f"{function}+0x0 (libcode.so.1)",)
    assert symbolizer.symbolize([frame], ["/libcode.so.1"]) == ("5a" * 20 + f"+{frame.offset:#x}",)
    library.parent.rename(tmp_path / "host/lib")
    for holder in ("bad", "good", ""):
        assert symbolizer.symbolize([frame], ["/bin/x"], holder=holder) == (
            "second+0x0 (libcode.so.1)",
        ), "the host's files are believed before all others"


def test_a_library_of_another_owner_is_none_of_the_host(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "only root gives files away")
    library = build(tmp_path / "lib")
    frame = UserFrame(build_id_of(library), code(library)["second"][0])
    os.chown(library, 65534, 65534)
    assert symbolizer_of(tmp_path).symbolize([frame]) == (f"{frame.build_id}+{frame.offset:#x}",)


def test_holders_share_what_the_host_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm of kills in many containers starts one process."""
    symbolizer = symbolizer_of(tmp_path)
    monkeypatch.setattr(SymbolChild, "run", count := CountedRun())
    frames = [UserFrame("ab" * 20, 1)]
    for number in range(100):
        symbolizer.symbolize(frames, ["/usr/bin/tail"], holder=f"/docker/{number}")
    assert count.requests == 1
    symbolizer.symbolize(frames, ["/srv/app"], holder="/docker/1")
    assert count.requests == 3


class CountedRun:
    """Counts requests, and finds nothing."""

    requests = 0

    def __call__(self, request: SymbolRequest, _: float) -> list[FrameSymbol]:
        self.requests += 1
        return [NO_SYMBOL] * len(request.frames)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_hangs_or_is_killed_leaves_the_stack_bare(
    tmp_path: Path,
    how: signal.Signals,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One log line counts such stacks, and none is tried again at once."""
    real_start = child._start  # noqa: SLF001  the seam of the fault

    def start(theirs: socket.socket) -> int:
        pid = real_start(theirs)
        os.kill(pid, how)
        return pid

    monkeypatch.setattr(child, "_start", start)
    symbolizer = UserSymbolizer(tmp_path, timeout_s=0.2)
    frames = [UserFrame("ab" * 20, 1), UserFrame("cd" * 20, 2)]
    bare = ("ab" * 20 + "+0x1", "cd" * 20 + "+0x2")
    with caplog.at_level(logging.WARNING):
        assert symbolizer.symbolize(frames) == bare
        wait_until(lambda: not running_children(), "the process has ended")
        assert symbolizer.symbolize(frames) == bare
    (record,) = caplog.records
    assert "stacks=1" in record.getMessage()


def children_of(thread: int) -> list[int]:
    children = Path(f"/proc/self/task/{thread}/children")
    require(children.exists(), "this kernel lists no children")
    return [int(word) for word in children.read_text(encoding="ascii").split()]


def running_children() -> list[int]:
    """Return the children that are more than an entry for their parent."""
    children = children_of(threading.get_native_id())
    stats = ((pid, ProcessDir(pid).read_stat()) for pid in children)
    return [pid for pid, stat in stats if stat and stat.state != "Z"]


def test_names_are_one_line_each(tmp_path: Path) -> None:
    """A tenant's symbol table can have any bytes."""
    library = build(tmp_path / "lib")
    offset = code(library)["second"][0]
    library.write_bytes(library.read_bytes().replace(b"second", b"\n\x1b[31m"))
    frame = UserFrame(build_id_of(library), offset)
    library.rename(tmp_path / "lib/lib\nx.so")
    (line,) = symbolizer_of(tmp_path).symbolize([frame])
    assert line == r"\x0a\x1b[31m+0x0 (lib\x0ax.so)"


def test_frame_with_an_invalid_build_id_stays() -> None:
    frames = [UserFrame("", 5), UserFrame("xyz", 1), UserFrame("ab" * 200, 1 << 70)]
    lines = symbolizer_of(Path("/nonexistent")).symbolize(frames)
    assert lines == ("+0x5", "xyz+0x1", "ab" * 200 + f"+{1 << 70:#x}")
    assert symbolizer_of().symbolize([]) == ()


def test_cached_lines_are_bounded(tmp_path: Path) -> None:
    library = build(tmp_path / "lib")
    digits = build_id_of(library)
    symbolizer = symbolizer_of(tmp_path)
    for first in range(0, 640, 64):
        symbolizer.symbolize([UserFrame(digits, offset) for offset in range(first, first + 64)])
    assert len(symbolizer._lines) <= 512  # noqa: SLF001  there is no other way to see it


def record_requests(monkeypatch: pytest.MonkeyPatch) -> list[SymbolRequest]:
    """Return the requests from now on, each of which has its real process."""
    requests: list[SymbolRequest] = []
    real_run = SymbolChild.run

    def run(
        runner: SymbolChild, request: SymbolRequest, timeout_s: float
    ) -> list[FrameSymbol] | None:
        requests.append(request)
        return real_run(runner, request, timeout_s)

    monkeypatch.setattr(SymbolChild, "run", run)
    return requests


def build_frames(root: Path) -> tuple[Path, UserFrame, UserFrame]:
    """Build a library below ``root``; return it and a frame of each of its functions."""
    library = build(root / "usr/lib")
    digits, functions = build_id_of(library), code(library)
    second, unseen = (UserFrame(digits, functions[name][0]) for name in ("second", "unseen"))
    return library, second, unseen


def test_a_file_that_was_found_once_is_searched_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of all libraries of the host takes several times as long."""
    _, second, unseen = build_frames(tmp_path)
    requests = record_requests(monkeypatch)
    symbolizer = symbolizer_of(tmp_path)
    assert symbolizer.symbolize([second]) == ("second+0x0 (libcode.so.1)",)
    assert symbolizer.symbolize([unseen]) == ("unseen+0x0 (libcode.so.1)",)
    first, again = requests
    assert first.library_roots == (str(tmp_path),)
    assert (again.executables, again.library_roots) == (("/usr/lib/libcode.so.1",), ())
    assert again.owner == first.owner


def test_a_file_that_moved_is_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, second, unseen = build_frames(tmp_path)
    symbolizer = symbolizer_of(tmp_path)
    symbolizer.symbolize([second])
    (tmp_path / "lib").mkdir()
    library.rename(tmp_path / "lib/libcode.so.1")
    requests = record_requests(monkeypatch)
    assert symbolizer.symbolize([unseen]) == ("unseen+0x0 (libcode.so.1)",)
    assert len(requests) == 2


def test_a_known_file_that_hangs_is_not_searched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, unseen = build_frames(tmp_path)
    symbolizer = symbolizer_of(tmp_path)
    symbolizer.symbolize([second])
    requests = []
    monkeypatch.setattr(SymbolChild, "run", lambda *arguments: requests.append(arguments))
    assert symbolizer.symbolize([unseen]) == (f"{unseen.build_id}+{unseen.offset:#x}",)
    assert len(requests) == 1
