"""The bounds of runtimes by their settings, and what fits a limit.

Expected sizes are those of the documentation that each module names, and of the runtimes
themselves: java -XX:+PrintFlagsFinal of OpenJDK 17 and v8.getHeapStatistics() of Node.js 20, in
cgroups with these limits.
"""

from __future__ import annotations

import pytest

from otel_oom.enrich.runtimes import RuntimeFinding, check_runtime
from otel_oom.enrich.runtimes.bound import Memory
from otel_oom.enrich.runtimes.dotnet import bound_dotnet
from otel_oom.enrich.runtimes.go import bound_go
from otel_oom.enrich.runtimes.jvm import bound_jvm
from otel_oom.enrich.runtimes.nodejs import bound_nodejs
from otel_oom.enrich.runtimes.options import parse_size
from otel_oom.linux.runtimes.settings import ARGUMENT_FILE
from otel_oom.model.runtime import (
    CPYTHON,
    DOTNET,
    GO,
    JVM,
    MYSQL,
    NODEJS,
    POSTGRESQL,
    REDIS,
    RuntimeSettings,
)
from otel_oom.model.units import MIB, format_bytes


def settings(name: str, **values: str) -> RuntimeSettings:
    return RuntimeSettings(name, settings=values, is_complete=True)


def memory(limit_mib: int, host_mib: int = 65536) -> Memory:
    return Memory(limit_mib * MIB, limit_mib * MIB, host_mib * MIB)


def problem_of(
    runtime: RuntimeSettings, limit_mib: int, used_mib: int | None = None
) -> RuntimeFinding:
    used = limit_mib if used_mib is None else used_mib
    finding = check_runtime(runtime, memory(limit_mib), used * MIB)
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 * MIB),
        ("1G", 1024 * MIB),
        ("134217728", 128 * MIB),
        ("0x8000000", 128 * MIB),
        ("1GiB", 1024 * MIB),
        ("10B", 10),
        ("100mb", 100 * MIB),
        ("1.5GB", 1536 * MIB),
        ("x", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("limit_mib", "heap_bytes"),
    [(128, 67108864), (256, 130862284), (512, 134217728), (1024, 268435456)],
)
def test_the_default_heap_of_a_jvm(limit_mib: int, heap_bytes: int) -> None:
    """Java aligns the second one up to 132120576."""
    bound = bound_jvm(settings(JVM), memory(limit_mib))
    assert bound is not None
    assert bound.is_default
    assert bound.max_bytes is not None
    assert abs(bound.max_bytes - heap_bytes) < 2 * MIB


@pytest.mark.parametrize(
    ("values", "heap_mib", "text"),
    [
        ({"-Xmx": "512m"}, 512, "-Xmx512m"),
        ({"-XX:MaxHeapSize": "1g"}, 1024, "-XX:MaxHeapSize=1g"),
        ({"-XX:MaxHeapSize": "1g", "-Xmx": "512m"}, 512, "-Xmx512m"),
        ({"-XX:MaxRAMPercentage": "75.0"}, 768, "-XX:MaxRAMPercentage=75.0"),
        ({"-Xmx": "100m", "-XX:MaxRAMPercentage": "75.0"}, 100, "-Xmx100m"),
        ({"JAVA_TOOL_OPTIONS": "-Xmx300m"}, 300, "JAVA_TOOL_OPTIONS=-Xmx300m"),
        # A command line comes after JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS, _JAVA_OPTIONS after it.
        ({"JAVA_TOOL_OPTIONS": "-Xmx300m", "-Xmx": "400m"}, 400, "-Xmx400m"),
        ({"JDK_JAVA_OPTIONS": "-Xmx3m", "JAVA_TOOL_OPTIONS": "-Xmx2m"}, 3,
         "JDK_JAVA_OPTIONS=-Xmx3m"),
        ({"_JAVA_OPTIONS": "-Xmx300m", "-Xmx": "400m"}, 300, "_JAVA_OPTIONS=-Xmx300m"),
        ({"-XX:MaxRAM": "512m", "-XX:MaxRAMPercentage": "50"}, 256, "-XX:MaxRAMPercentage=50"),
    ],
)  # fmt: skip
def test_the_settings_of_a_jvm(values: dict[str, str], heap_mib: int, text: str) -> None:
    bound = bound_jvm(settings(JVM, **values), memory(1024))
    assert bound is not None
    assert (bound.max_bytes, bound.setting, bound.is_default) == (heap_mib * MIB, text, False)


def test_a_jvm_that_ignores_its_container_has_a_quarter_of_the_host() -> None:
    bound = bound_jvm(settings(JVM, **{"-XX:": "-UseContainerSupport"}), memory(512, host_mib=8192))
    assert bound is not None
    assert bound.max_bytes == 2048 * MIB


def test_nothing_is_said_of_a_default_where_settings_may_be_missing() -> None:
    """The victim's memory was gone, or options are in a file."""
    for name in (JVM, NODEJS, GO, DOTNET):
        assert check_runtime(RuntimeSettings(name), memory(64), 64 * MIB) is None
        hidden = RuntimeSettings(name, settings={ARGUMENT_FILE: ""})
        assert check_runtime(hidden, memory(64), 64 * MIB) is None


def test_a_heap_as_large_as_the_limit() -> None:
    """The example of the documentation: 512 MiB of 512 MiB, which needs 683 MiB."""
    finding = problem_of(settings(JVM, **{"-Xmx": "512m"}), 512)
    assert (finding.problem, finding.remaining_bytes) == ("exceeds_limit", 0)
    assert finding.bound.fitting == "-XX:MaxRAMPercentage=75"
    assert finding.fitting_limit_bytes == 700 * MIB


@pytest.mark.parametrize("limit_mib", [128, 200, 256, 300, 512, 1024, 4096])
@pytest.mark.parametrize("name", [JVM, NODEJS, GO, DOTNET])
def test_the_fitting_setting_fits(name: str, limit_mib: int) -> None:
    """As the program is started with it, the check has nothing to say."""
    wrong = {JVM: {"-Xmx": "9g"}, NODEJS: {"--max-old-space-size": "9000"}}
    variables = {GO: {"GOMEMLIMIT": "9GiB"}, DOTNET: {"DOTNET_GCHeapHardLimit": "FFFFFFFFF"}}
    finding = problem_of(settings(name, **(wrong | variables)[name]), limit_mib)
    fitting = finding.bound.fitting
    assert fitting is not None
    key, _, value = fitting.split(" ")[0].partition("=")
    if key.startswith("-Xmx"):
        key, value = key[:4], key[4:]
    fixed = check_runtime(settings(name, **{key: value}), memory(limit_mib), limit_mib * MIB)
    assert fixed is None or fixed.problem == "outside_bound"


@pytest.mark.parametrize("limit_mib", [128, 256, 512, 700, 740, 750, 760, 1024, 4096])
def test_the_fitting_limit_fits(limit_mib: int) -> None:
    """Also as it is written, with one decimal place."""
    finding = problem_of(settings(JVM, **{"-Xmx": f"{limit_mib}m"}), limit_mib)
    fitting_bytes = finding.fitting_limit_bytes
    assert fitting_bytes is not None
    number, unit = format_bytes(fitting_bytes).split()
    assert float(number) * {"MiB": MIB, "GiB": 1024 * MIB}[unit] == fitting_bytes
    fixed = check_runtime(
        settings(JVM, **{"-Xmx": f"{limit_mib}m"}), Memory(fitting_bytes, fitting_bytes), 0
    )
    assert fixed is None


def test_memory_outside_of_a_heap_that_fits() -> None:
    """Half of it is no heap: direct buffers, or a native leak."""
    finding = problem_of(settings(JVM, **{"-Xmx": "256m"}), 1024)
    assert finding.problem == "outside_bound"
    assert check_runtime(settings(JVM, **{"-Xmx": "256m"}), memory(1024), 400 * MIB) is None


@pytest.mark.parametrize(
    ("limit_mib", "heap_mib"),
    [(128, 256), (256, 256), (512, 256), (1024, 512), (8192, 2048), (16384, 4096)],
)
def test_the_default_heap_of_nodejs(limit_mib: int, heap_mib: int) -> None:
    """v8.getHeapStatistics() says 259 and 524 MiB for the first ones, with the young generation."""
    bound = bound_nodejs(settings(NODEJS), memory(limit_mib))
    assert bound is not None
    assert (bound.max_bytes, bound.is_default) == (heap_mib * MIB, True)


def test_the_settings_of_nodejs() -> None:
    """node(1): options on the command line come after those of NODE_OPTIONS."""
    values = {"NODE_OPTIONS": "--max-old-space-size=100"}
    bound = bound_nodejs(settings(NODEJS, **values), memory(2048))
    assert bound is not None
    assert bound.setting == "NODE_OPTIONS=--max-old-space-size=100"
    bound = bound_nodejs(
        settings(NODEJS, **values, **{"--max-old-space-size": "4096"}), memory(2048)
    )
    assert bound is not None
    assert (bound.setting, bound.max_bytes) == ("--max-old-space-size=4096", 4096 * MIB)
    # The documentation's example: 1536 on a machine of 2 GiB.
    assert bound.fitting == "--max-old-space-size=1536"


def test_the_limit_of_go() -> None:
    """The guide leaves 5 to 10 % of a container's limit."""
    finding = problem_of(settings(GO, GOMEMLIMIT="1GiB"), 512)
    assert (finding.problem, finding.bound.setting) == ("exceeds_limit", "GOMEMLIMIT=1GiB")
    assert finding.bound.fitting == "GOMEMLIMIT=460MiB"
    assert finding.fitting_limit_bytes == 1536 * MIB
    assert check_runtime(settings(GO, GOMEMLIMIT="460MiB"), memory(512), 512 * MIB) is None


@pytest.mark.parametrize(
    ("values", "own"),
    [({}, False), ({"GOMEMLIMIT": "off", "GOGC": "200"}, False), ({"GOGC": "off"}, True)],
)
def test_go_without_a_limit(values: dict[str, str], own: bool) -> None:  # noqa: FBT001  a case
    finding = problem_of(settings(GO, **values), 512)
    assert (finding.problem, finding.fitting_limit_bytes) == ("unbounded", None)
    bound = bound_go(settings(GO, **values), memory(512))
    assert bound is not None
    assert bound.is_default is not own


def test_the_heap_of_dotnet() -> None:
    """The numbers of its variables are hexadecimal: C800000 is 200 MiB, 4B is 75 %."""
    bound = bound_dotnet(settings(DOTNET, DOTNET_GCHeapHardLimit="C800000"), memory(512))
    assert bound is not None
    assert bound.max_bytes == 200 * MIB
    bound = bound_dotnet(settings(DOTNET, DOTNET_GCHeapHardLimitPercent="4B"), memory(512))
    assert bound is not None
    assert bound.max_bytes == 384 * MIB
    bound = bound_dotnet(settings(DOTNET), memory(512))
    assert bound is not None
    assert (bound.max_bytes, bound.is_default) == (384 * MIB, True)


@pytest.mark.parametrize(
    ("runtime", "fitting"),
    [
        (settings(POSTGRESQL, shared_buffers="512MB"), "shared_buffers=256MB"),
        (settings(POSTGRESQL, shared_buffers="131072"), "shared_buffers=256MB"),
        (settings(REDIS, maxmemory="1gb"), "maxmemory 768mb"),
        (settings(MYSQL, innodb_buffer_pool_size="1G"), "innodb_buffer_pool_size=614M"),
    ],
)
def test_servers(runtime: RuntimeSettings, fitting: str) -> None:
    finding = problem_of(runtime, 1024)
    assert (finding.problem, finding.bound.fitting) == ("exceeds_limit", fitting)


@pytest.mark.parametrize("name", [POSTGRESQL, REDIS, MYSQL, CPYTHON, "something"])
def test_without_a_setting_nothing_is_known_of_a_server(name: str) -> None:
    """Their files of settings are not read."""
    assert check_runtime(settings(name), memory(64), 64 * MIB) is None
