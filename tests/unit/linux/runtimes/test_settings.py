"""The allow-list of memory settings, by the grammar of each runtime's documentation."""

from __future__ import annotations

import pytest

from otel_oom.linux.runtimes.settings import (
    ARGUMENT_FILE,
    format_setting,
    parse_options,
    select_settings,
)

SECRET = "hunter2"  # noqa: S105  stands for one


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # java(1): "-Xmx size", with k, m or g; --add-modules and -cp have their value in a word.
        ("java -Xmx512m -jar app.jar", {"-Xmx": "512m"}),
        ("/jdk/bin/java -Xms1G -Xmx2G -Xss1k X", {"-Xms": "1G", "-Xmx": "2G", "-Xss": "1k"}),
        ("java -XX:MaxRAMPercentage=75.0 Main", {"-XX:MaxRAMPercentage": "75.0"}),
        ("java -XX:MaxHeapSize=134217728 Main", {"-XX:MaxHeapSize": "134217728"}),
        ("java -XX:MaxMetaspaceSize=256m -XX:MaxDirectMemorySize=1g X",
         {"-XX:MaxMetaspaceSize": "256m", "-XX:MaxDirectMemorySize": "1g"}),
        ("java -XX:-UseContainerSupport Main", {"-XX:": "-UseContainerSupport"}),
        ("java -cp a.jar:b.jar -Xmx1g Main", {"-Xmx": "1g"}),
        ("java --module-path mods -Xmx1g -m app/Main", {"-Xmx": "1g"}),
        ("java -Xmx1g -Xmx2g Main", {"-Xmx": "2g"}),
        # Arguments of the program are not options of the JVM.
        ("java -jar app.jar -Xmx9g", {}),
        ("java Main -Xmx9g", {}),
        ("java -cp -Xmx9g Main", {}),
        ("java @options.txt -Xmx1g Main", {ARGUMENT_FILE: "", "-Xmx": "1g"}),
        ("java -XX:VMOptionsFile=vm.options Main", {ARGUMENT_FILE: ""}),
        # Wrappers, as they are in the entry point of an image.
        ("/usr/bin/tini -- java -Xmx1g -jar app.jar", {"-Xmx": "1g"}),
        # node(1): --max-old-space-size is an option of V8, in MiB; _ counts as -.
        ("node --max-old-space-size=512 app.js", {"--max-old-space-size": "512"}),
        ("node --max_old_space_size=512 app.js", {"--max-old-space-size": "512"}),
        ("node -r ./register --max-semi-space-size=64 x", {"--max-semi-space-size": "64"}),
        ("node app.js --max-old-space-size=512", {}),
        ("node -- --max-old-space-size=512", {}),
        # postgres(1): -c name=value, --name=value.
        ("postgres -D /data -c shared_buffers=128MB --work-mem=4MB -c max_connections=100",
         {"shared_buffers": "128MB", "work_mem": "4MB", "max_connections": "100"}),
        # redis.conf: options on the command line have two dashes and their value in a word.
        ("redis-server /etc/redis.conf --maxmemory 100mb", {"maxmemory": "100mb"}),
        ("mysqld --innodb-buffer-pool-size=1G", {"innodb_buffer_pool_size": "1G"}),
        ("php -d memory_limit=128M x.php", {"memory_limit": "128M"}),
    ],
)  # fmt: skip
def test_options_of_a_command_line(command: str, expected: dict[str, str]) -> None:
    assert select_settings(command.split(), {}) == expected


def test_a_shell_with_one_command() -> None:
    """As an image's entry point in shell form."""
    argv = ["/bin/sh", "-c", f"exec java -Dpassword='{SECRET} -Xmx9g' -Xmx1g -jar app.jar"]
    assert select_settings(argv, {}) == {"-Xmx": "1g"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # "A Guide to the Go Garbage Collector" and package runtime.
        *[("GOMEMLIMIT", value) for value in ("1GiB", "123", "512MiB", "10B", "off")],
        *[("GOGC", value) for value in ("100", "off")],
        ("GOMAXPROCS", "4"),
        # .NET: hexadecimal, with or without 0x.
        ("DOTNET_GCHeapHardLimit", "C800000"),
        ("DOTNET_GCHeapHardLimit", "0x10000000"),
        ("DOTNET_GCHeapHardLimitPercent", "4B"),
        ("COMPlus_GCHeapHardLimit", "C800000"),
        ("MALLOC_ARENA_MAX", "2"),
        ("PYTHONMALLOC", "malloc"),
        ("JAVA_TOOL_OPTIONS", "-Xmx512m"),
        ("NODE_OPTIONS", "--max-old-space-size=256"),
    ],
)
def test_variables(name: str, value: str) -> None:
    assert select_settings([], {name: value}) == {name: value}


def test_of_a_variable_with_options_only_the_allowed_ones_are_kept() -> None:
    """``JAVA_TOOL_OPTIONS`` may hold what a command line does; quotes group (JVMTI's guide)."""
    text = f'-javaagent:/a.jar=key={SECRET} -Xmx512m "-Dx={SECRET} -Xmx9g" -XX:MaxRAMPercentage=70'
    settings = select_settings([], {"JAVA_TOOL_OPTIONS": text})
    assert settings == {"JAVA_TOOL_OPTIONS": "-Xmx512m -XX:MaxRAMPercentage=70"}
    parsed = parse_options(settings["JAVA_TOOL_OPTIONS"])
    assert parsed == {"-Xmx": "512m", "-XX:MaxRAMPercentage": "70"}


def test_a_file_of_options_is_noted_but_not_named() -> None:
    settings = select_settings([], {"JDK_JAVA_OPTIONS": f"@/run/{SECRET} -Xmx1g"})
    assert settings == {ARGUMENT_FILE: "", "JDK_JAVA_OPTIONS": "-Xmx1g"}


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["java", f"-Xmx{SECRET}", f"-Dpassword={SECRET}", SECRET], {}),
        (["java", f"-XX:MaxHeapSize={SECRET}", "Main"], {}),
        (["node", f"--max-old-space-size={SECRET}", f"--token={SECRET}", SECRET], {}),
        (["redis-server", "--maxmemory", SECRET, "--requirepass", SECRET], {}),
        (["postgres", "-c", f"shared_buffers={SECRET}", "-c", f"primary_conninfo={SECRET}"], {}),
        ([f"shared_buffers=1MB{SECRET}", f"--maxmemory=1\n{SECRET}", SECRET], {}),
        ([], {"GOMEMLIMIT": SECRET, "GOGC": SECRET, "PASSWORD": SECRET, "PYTHONMALLOC": SECRET}),
        ([], {"JAVA_TOOL_OPTIONS": f"-Dx={SECRET}", "NODE_OPTIONS": f"--require /{SECRET}"}),
        ([], {"JAVA_TOOL_OPTIONS": f"'-Xmx1g {SECRET}", "_JAVA_OPTIONS": f'-Xmx"{SECRET}"1g'}),
        (
            [],
            {"JAVA_TOOL_OPTIONS": f"-Xmx1g{SECRET}", "NODE_OPTIONS": f"--max-heap-size=1{SECRET}"},
        ),
        ([], {"DOTNET_GCHeapHardLimit": f"0x{SECRET}", SECRET: "GOGC=1"}),
    ],
)
def test_no_text_that_someone_chose_passes(argv: list[str], environ: dict[str, str]) -> None:
    """Names are those of the list, values numbers: a secret is neither."""
    assert SECRET not in repr(select_settings(argv, environ))


def test_size_and_number_are_bounded() -> None:
    """A victim can have a command line of megabytes."""
    argv = ["java", *["-Xmx1g"] * 5000, "-Xmx2g"]
    text = "-Xmx1g " * 5000
    settings = select_settings(argv, {"JAVA_TOOL_OPTIONS": text, "GOGC": "1" * 5000})
    assert settings["-Xmx"] == "1g"
    assert len(repr(settings)) < 300
    assert "GOGC" not in settings


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("-Xmx", "512m", "-Xmx512m"),
        ("-XX:MaxRAMPercentage", "75", "-XX:MaxRAMPercentage=75"),
        ("-XX:", "-UseContainerSupport", "-XX:-UseContainerSupport"),
        ("-XX:MaxHeapSize", "1g", "-XX:MaxHeapSize=1g"),
        ("--max-old-space-size", "512", "--max-old-space-size=512"),
        ("GOMEMLIMIT", "1GiB", "GOMEMLIMIT=1GiB"),
    ],
)
def test_a_setting_as_a_person_writes_it(name: str, value: str, written: str) -> None:
    assert format_setting(name, value) == written
