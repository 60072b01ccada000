"""The documentation, compared with the code and with itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import otel_oom
from otel_oom.config import agent, store
from otel_oom.config.filters import DROP_ATTRIBUTES, EXCLUDE, INCLUDE, PROCESSORS
from otel_oom.config.standard_variables import STANDARD_VARIABLES, otlp_variables
from otel_oom.store import StoreLimits
from scripts import generate_docs
from tests.testlib.registry import load_registry
from tests.testlib.repository import REPOSITORY

PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in ("*.md", "docs/*.md", "*/README.md", "mixin/*.md")
    for path in REPOSITORY.glob(pattern)
)
CONFIGURATION = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", generate_docs.PAGES)
def test_generated_part_is_up_to_date(page: str) -> None:
    assert generate_docs.generate(page) == read(page), "run make docs"


def test_check_reports_a_stale_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate_docs.main(["--check"]) == 0
    monkeypatch.setitem(generate_docs.PAGES, "docs/cli.md", {"parser": lambda: iter(["new"])})
    assert generate_docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/cli.md is stale: run make docs\n"


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 150


def test_every_exporter_variable_is_documented() -> None:
    """Each general variable has a row; nothing else that looks like one is mentioned."""
    general = {n for n in otlp_variables() if not re.search("_(LOGS|TRACES|METRICS)_", n)}
    rows = set(re.findall(r"(?m)^\| `(OTEL_EXPORTER_OTLP_[A-Z_]+)`", CONFIGURATION))
    mentioned = {
        name
        for page in PAGES
        for name in re.findall(r"\bOTEL_EXPORTER_OTLP_[A-Z_]+\b", read(page))
        if not name.endswith("_")
    }
    assert general <= rows
    assert mentioned <= {name for variable in STANDARD_VARIABLES for name in variable.names}


def test_every_own_variable_is_documented() -> None:
    """Each `OTEL_OOM_*` variable has a row with its default, and there is no other row."""
    rows = dict(re.findall(r"(?m)^\| `(OTEL_OOM_\w+)` \| `?(\w+)", CONFIGURATION))
    assert rows.keys() == own_variables()
    lists = (EXCLUDE, INCLUDE, DROP_ATTRIBUTES, PROCESSORS)
    assert {rows.pop(name) for name in (agent.CONTAINER_LABELS, *lists)} == {"none"}
    assert agent.read_agent_config(rows).claimed_identity
    assert store.read_store_limits(rows) == StoreLimits()


def own_variables() -> set[str]:
    """Return the variables that the configuration reads, by their names in its source."""
    modules = (REPOSITORY / "otel_oom/config").glob("*.py")
    return {
        name
        for module in modules
        for name in re.findall(r'"(OTEL_OOM_\w+)"', module.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """The file of each relative link exists, and has the heading that its anchor names."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", prose(page)):
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), f"{page}: {path}"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), anchor


def prose(page: str) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", read(page))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", title.strip()).lower().replace(" ", "-") for title in headings}


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", read("Makefile")))
    for page in (*PAGES, *workflows()):
        mentioned = set(re.findall(r"(?m)(?:^|`|entry: |run: )make ([a-z][a-z-]*)", read(page)))
        assert mentioned <= targets, page


def workflows() -> Iterator[str]:
    """Yield the files outside of the documentation that name make targets."""
    yield ".pre-commit-config.yaml"
    yield from (str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(".github/**/*.[ym]*"))


ABOLISHED = {
    r"\b(un)?told\b|\btell(s|ing)?\b": "emit, report, record, encode",
    r"\bcouriers?\b": "exporter",
    r"\bwitness(es)?\b|\bseen\b": "snapshot, observed",
    r"\btwin(s|ned)?\b": "match, duplicate",
    r"\baside\b": "quarantined, salvaged",
    r"\b(un)?dress(ed|es)?\b": "prefix",
    r"\btroubles?\b": "fault, error kind",
    r"\bmend(s|ed|ing)?\b": "recover",
    r"\bask(s|ed|ing)?\b": "request, query",
    r"\boutlook\b": "prediction",
    r"\bfigures?\b": "number, stats",
    r"\bseal(s|ed)?\b|\bsound\b": "checksum",
    r"\brooms?\b": "disk space, reserve",
    r"\bforms\b": "message formats",
    r"\bplaces\b": "bundle directories",
    r"\bmonitors\b": "shims",
    r"\bkillers\b": "userspace OOM daemons",
    r"\bwants? of memory\b|\bno memory left\b": "out of memory",
    r"\blet(s|ting)? go\b": "release, drop, evict",
    r"\b(verdicts?|doubtful|turned away)\b|perhaps taken|backend('s)? answers?": "response, result",
    r"\b(begin|begun|began)s? anew\b|in vain|in nobody's way|gone without|none of its business"
    "|as good as none": "",
}
"""Words that a newcomer can't look up, each with the words of the field."""

SOURCES = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in (
        *("otel_oom/**/*.py", "otel_oom/**/*.yaml", "bpf/**/*.[ch]", "bpf/Makefile", "Makefile"),
        *("deploy/*/*", "collector-config/**/*.yaml", "examples/*.py", "scripts/*"),
        "pyproject.toml",
        *("mixin/source/*.py", "mixin/rules/*.yaml", "mixin/dashboards/*.json"),
    )
    for path in REPOSITORY.glob(pattern)
    if path.is_file() and "bpf_source" not in path.parts
)


@pytest.mark.parametrize("page", [*PAGES, *SOURCES])
def test_no_abolished_word(page: str) -> None:
    """Neither in prose and samples nor as a part of an identifier, between underscores."""
    text = read(page)
    for pattern, words in ABOLISHED.items():
        found = re.search(pattern, text.replace("_", " "), re.IGNORECASE)
        assert not found, f"{page}: {found[0]!r}; better: {words}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    """Paths are given from the root, from `otel_oom/`, or from the folder of the page."""
    roots = (REPOSITORY, REPOSITORY / "otel_oom", (REPOSITORY / page).parent)
    names = "|".join({path.name for root in roots[:2] for path in root.iterdir() if path.is_dir()})
    for path in re.findall(rf"`((?:{names})/[\w./-]*)`", read(page)):
        assert any((root / path).exists() for root in roots), f"{page}: {path}"


def test_types_of_the_architecture_exist() -> None:
    code = "".join(path.read_text("utf-8") for path in REPOSITORY.glob("otel_oom/**/*.py"))
    steps = re.findall(r"(?m)^\| \d.*\| `([A-Z]\w+)` \|$", read("docs/architecture.md"))
    assert steps
    for name in steps:
        assert re.search(rf"(?m)^(class )?{name}\b", code), name


@pytest.mark.parametrize("page", PAGES)
def test_every_attribute_is_registered(page: str) -> None:
    """A name, or the part of it before `.*`, is in the registry, or a name of Python."""
    registry = load_registry()
    groups = registry.groups.values()
    python = {f"otel_oom.{name}" for name in (*otel_oom.__all__, "pipeline")}
    names = {
        *python,
        *registry.attributes,
        *(str(g.get("name", g.get("metric_name"))) for g in groups),
    }
    for name in re.findall(r"`((?:otel_)?oom\.(?!b(?:pf|cc)\.)[\w.]+?)(?:\.?\*)?`", read(page)):
        assert any(
            f"{known}.".startswith(f"{name}.") or name.startswith(f"{known}.") for known in names
        ), name
