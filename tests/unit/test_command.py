"""Secrets in a command line do not come through, and the rest does."""

from __future__ import annotations

import pytest

from otel_oom.enrich.command import scrubbed

SECRET = "hunter2"  # noqa: S105  it is one, and nobody's
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1g"


@pytest.mark.parametrize(
    "words",
    [
        ("app", "--password", SECRET),
        ("app", f"--password={SECRET}"),
        ("app", f"--db-password={SECRET}"),
        ("app", "-token", SECRET),
        ("app", "--api-key", SECRET),
        ("java", f"-Dspring.datasource.password={SECRET}"),
        ("env", f"AWS_SECRET_ACCESS_KEY={SECRET}", "app"),
        ("env", f"DB_PASSWD={SECRET}"),
        ("mysql", f"-p{SECRET}", "db"),
        ("/usr/bin/mysqldump", f"-p{SECRET}"),
        ("psql", f"postgres://me:{SECRET}@db/x"),
        ("psql", f"postgres://me:a/{SECRET}@db/x"),
        ("curl", "-H", f"Authorization: Bearer {SECRET}"),
        ("curl", "-H", f"X-Api-Key: {SECRET}"),
        ("curl", f"https://x/?a=1&access_token={SECRET}&b=2"),
        ("sh", "-c", f"PASSWORD={SECRET} exec app"),
        ("sh", "-c", f"exec app --password={SECRET} --port 1"),
        ("sh", "-c", f"exec app --password {SECRET} --port 1"),
        ("app", f"password:{SECRET}"),
    ],
)
def test_a_secret_does_not_come_through(words: tuple[str, ...]) -> None:
    """By whichever way it was given to the program."""
    assert SECRET not in " ".join(scrubbed(words))


@pytest.mark.parametrize(
    "token", [JWT, "ghp_" + "a1" * 18, "AKIAIOSFODNN7EXAMPLE", "xoxb-12345678-ab"]
)
def test_a_token_is_known_by_its_form(token: str) -> None:
    """Wherever it stands."""
    assert token not in " ".join(scrubbed(("app", token, f"x={token}")))


def test_what_is_no_secret_stays() -> None:
    """A command line is of use only as long as it can be recognized."""
    words = ("java", "-Xmx512m", "-jar", "/srv/app.jar", "--port=8080", "http://db:5432/x", "")
    assert scrubbed(words) == words


def test_the_name_of_a_secret_stays() -> None:
    """What was hidden is told."""
    assert scrubbed(("a", "--password=x", "--token", "y")) == (
        "a",
        "--password=***",
        "--token",
        "***",
    )


def test_a_command_line_is_bounded() -> None:
    """Neither its words nor their length are without end."""
    result = scrubbed(["x" * 100_000] * 1000)
    assert len(result) == 65
    assert result[-1] == "…"
    assert max(map(len, result)) == 257
