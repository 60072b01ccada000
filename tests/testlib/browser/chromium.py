"""Chromium by its DevTools protocol, over the two pipes of `--remote-debugging-pipe`.

Sources: https://chromedevtools.github.io/devtools-protocol/ (domains Page, Runtime, Emulation,
Network, Log); content/browser/devtools/devtools_pipe_handler.cc (descriptors 3 and 4; each message
ends with a zero byte).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("chromium-headless-shell", "chromium", "google-chrome")
_ANSWER_S: Final = 60.0
_END: Final = b"\0"


def find_chromium() -> str | None:
    """Return the browser of this machine, by the first of its names."""
    return next(filter(shutil.which, PROGRAMS), None)


class BrowserError(Exception):
    """The browser reported an error, or ended."""


@dataclass
class Tab:
    """A tab, and all events of its pages since the last navigation."""

    process: subprocess.Popen[bytes]
    commands: int
    messages: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    def send(self, method: str, **parameters: object) -> Mapping[str, Any]:
        """Run a command of the protocol and return its result."""
        id_ = next(self._ids)
        message: dict[str, Any] = {"id": id_, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + _END)
        while (answer := self._receive()).get("id") != id_:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: Mapping[str, Any] = answer["result"]
        return result

    def open(self, page: Path) -> None:
        """Load a page from a file."""
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def show_as(self, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Lay the page out in a window of this width, in this colour scheme and medium."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def run(self, script: str) -> Any:  # noqa: ANN401  JSON
        """Return the value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def take_picture(self) -> bytes:
        """Return the whole page as PNG."""
        options = {"format": "png", "captureBeyondViewport": True}
        return b64decode(self.send("Page.captureScreenshot", **options)["data"])

    def take_small_picture(self) -> bytes:
        """Return the whole page as WebP, in three quarters of its size."""
        height = self.run("document.documentElement.scrollHeight")
        width = self.run("document.documentElement.scrollWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 0.75}
        options = {"format": "webp", "quality": 80, "captureBeyondViewport": True, "clip": clip}
        return b64decode(self.send("Page.captureScreenshot", **options)["data"])

    def print_pdf(self) -> bytes:
        """Return the page as PDF, on the paper that it names itself."""
        return b64decode(self.send("Page.printToPDF", preferCSSPageSize=True)["data"])

    def texts_of(self, *methods: str) -> list[str]:
        """Return the events of these methods since the last navigation, as JSON."""
        return [json.dumps(event) for event in self.events if event["method"] in methods]

    def requested_urls(self) -> list[str]:
        """Return the address of each request since the last navigation."""
        method = "Network.requestWillBeSent"
        events = (event["params"] for event in self.events if event["method"] == method)
        return [event["request"]["url"] for event in events]

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _ANSWER_S
        while _END not in self._buffer:
            ready, _, _ = select.select([self.messages], [], [], deadline - time.monotonic())
            chunk = os.read(self.messages, 1 << 20) if ready else b""
            if not chunk:
                raise BrowserError("the browser ended" if ready else "the browser does not answer")
            self._buffer += chunk
        message, _, rest = bytes(self._buffer).partition(_END)
        self._buffer[:] = rest
        value: dict[str, Any] = json.loads(message)
        return value


@contextmanager
def run_chromium() -> Iterator[Tab]:
    """Run the browser with one empty tab, and a profile of its own."""
    read_commands, commands = os.pipe()
    messages, write_messages = os.pipe()
    # The browser's children may write to it a moment longer.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            # Not sh: dash knows no descriptors of two digits.
            [
                *("/bin/bash", "-c", f'exec "$@" 3<&{read_commands} 4>&{write_messages}', "bash"),
                # Its sandbox needs a user other than root; pages here are our own.
                *(
                    find_chromium() or PROGRAMS[0],
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--remote-debugging-pipe",
                ),
                *(f"--user-data-dir={profile}", "--hide-scrollbars", "about:blank"),
            ],
            pass_fds=(read_commands, write_messages),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_messages)
        try:
            yield _attach(Tab(process, commands, messages))
        finally:
            os.close(commands)
            process.terminate()
            process.wait()
            os.close(messages)


def _attach(tab: Tab) -> Tab:
    target = tab.send("Target.createTarget", url="about:blank")["targetId"]
    tab.session = tab.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
        tab.send(f"{domain}.enable")
    return tab
