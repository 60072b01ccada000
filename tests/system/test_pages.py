"""`otel-oom show --html` and `otel-oom report --html` of real containers, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.browser.chromium import Tab
from tests.testlib.browser.plugin import CheckedPage
from tests.testlib.command import run_otel_oom
from tests.testlib.containers.image import BUSYBOX, KILLED_EXIT_CODE, OPEN_GATE
from tests.testlib.containers.podman import Podman, run_podman
from tests.testlib.kernel.oracle import wait_for_report_budget
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

_COMM: Final = 'busybox"><img>'
"""busybox runs under each name that begins with its own."""
_HOSTILE: Final = (
    f"cp {BUSYBOX} '/{_COMM}'; mkfifo /gate; read _ < /gate; exec '/{_COMM}' tail /dev/zero"
)
_KILLS: Final = 3
_LIMIT_S: Final = 60.0


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill the container `cart` twice and the container `shop` once; return the agent's state."""
    wait_for_report_budget(kills=_KILLS)
    backend = Backend()
    with run_podman() as runtime, Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_RESOURCE_ATTRIBUTES": "host.name=node-1",
        }
        with run_agent(tmp_path_factory.mktemp("agent"), environ) as running:
            running.wait_until_watching()
            _kill_containers(runtime)
            wait_until(
                lambda: (
                    run_otel_oom("show", "--state-dir", running.state_dir).out.count("accepted")
                    == 2
                ),
                "the delivery of the last log and span",
                limit=_LIMIT_S,
            )
            assert running.stop() == 0
        return running.state_dir


def _kill_containers(runtime: Podman) -> None:
    runtime.run("shop", _HOSTILE, "--memory=24m", "--detach")
    runtime.run_in("shop", OPEN_GATE)
    assert runtime.wait("shop") == KILLED_EXIT_CODE, runtime.logs("shop")
    for _ in range(_KILLS - 1):
        runtime.run_until_killed("cart")
        runtime.podman("rm", "cart")


def run(state_dir: Path, *words: str | Path) -> str:
    """Run a command on the history; return its standard output."""
    done = run_otel_oom(*words, "--state-dir", state_dir)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def test_page_of_a_container(state_dir: Path, look_at: CheckedPage, tmp_path: Path) -> None:
    """It has each word of the terminal's page."""
    page = tmp_path / "page.html"
    assert run(state_dir, "show", "--html", page) == ""
    text = look_at(page, "container")["text"]
    assert "container cart" in text
    assert "24.0 MiB" in text
    assert "kernel chose the victim and sent SIGKILL" in text
    words = find_words(run(state_dir, "show"))
    assert len(words) > 100
    # A long path is broken at the end of a line.
    assert {word for word in words if word not in text} == set()


def find_words(text: str) -> set[str]:
    """Return the words, without the parts of bars, the marks, and paths that are cut."""
    return {word.strip(",") for word in text.split() if not set(word) & set("▕▏█▉▊▋▌▍▎▶•…▁▂▃▄▅▆▇")}


def test_hostile_name_is_text(
    state_dir: Path, look_at: CheckedPage, browser: Tab, tmp_path: Path
) -> None:
    """The name of the process has a tag; the page has none of it."""
    events = run(state_dir, "events", "--json").splitlines()
    (uid,) = (
        attribute["value"]["stringValue"]
        for line in events
        if json.dumps(_COMM) in line
        for logs in json.loads(line)["resourceLogs"]
        for attribute in logs["scopeLogs"][0]["logRecords"][0]["attributes"]
        if attribute["key"] == "log.record.uid"
    )
    page = tmp_path / "page.html"
    page.write_text(run(state_dir, "show", uid, "--html", "-"), encoding="utf-8")
    assert _COMM in look_at(page, None)["headings"][0]
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_report(state_dir: Path, look_at: CheckedPage, tmp_path: Path) -> None:
    """The same numbers in HTML, on the terminal and in JSON."""
    page = tmp_path / "report.html"
    assert run(state_dir, "report", "--since", "1h", "--html", page) == ""
    text = look_at(page, "report")["text"]
    report = json.loads(run(state_dir, "report", "--since", "1h", "--json"))
    printed = run(state_dir, "report", "--since", "1h")
    # The host may have kills of its own at the same time.
    assert report["kills"] >= _KILLS
    (repeat,) = (each for each in report["repeats"] if each["owner"] == "container cart")
    assert (repeat["kills"], repeat["most_in_an_hour"]) == (2, 2)
    for form in (text, printed):
        assert f"{report['kills']} OOM kills of" in form
        assert "container cart" in form
    assert _COMM in text
