"""Redaction of command lines."""

from __future__ import annotations

import random

import pytest

from otel_oom.enrich.redact import redact

SECRET = "hunter2"  # noqa: S105  a fake one
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
        ("app", "--no-auth", "--password", SECRET),
        ("app", f"--password=a b, {SECRET}"),
        ("app", f"--config={{'password': '{SECRET}'}}"),
        ("app", f'{{"db": {{"password": "{SECRET}"}}}}'),
        ("app", f'{{\\"password\\":\\"{SECRET}\\"}}'),
        ("app", "--encryption-key", SECRET),
        ("app", f"AccountKey={SECRET}"),
        ("app", f"Server=x;Password={SECRET};Database=y"),
        ("app", f"--dsn=host=x user=y {SECRET}"),
        ("sshpass", "-p", SECRET, "ssh", "host"),
        ("sudo", "-u", "me", "/usr/bin/mysql", f"-p{SECRET}"),
        ("redis-cli", "-a", SECRET, "ping"),
        ("redis-cli", "config", "set", "requirepass", SECRET),
        ("curl", "-u", f"me:{SECRET}", "http://x"),
        ("curl", f"-ume:{SECRET}", "http://x"),
        ("curl", "--user", f"me:{SECRET}"),
        ("docker", "login", "-u", "me", "-p", SECRET),
        ("openssl", "-passin", f"pass:{SECRET}"),
        ("ldapsearch", "-w", SECRET),
        ("psql", f"postgres://me:a@{SECRET}@db/x"),
        ("redis-cli", f"redis://:{SECRET}@db"),
        ("scp", f"me:{SECRET}@host:/x"),
        ("curl", "-H", f"Authorization: Basic {SECRET}"),
        ("curl", f"-HAuthorization: Bearer {SECRET}"),
        ("curl", "-H", f"Cookie: a=b; c={SECRET}"),
        ("sh", "-c", f"cd /x && mysql -uroot -p{SECRET} db | head"),
        ("sh", "-c", f"sshpass -p '{SECRET} and more' ssh host"),
        ("sh", "-c", f"app --password 'x {SECRET}' --port 1"),
        ("sh", "-c", f"PASSWORD='x {SECRET}' exec app"),
        ("sh", "-c", f'exec app --db x"y" PASSWORD=a"b {SECRET}"'),
        ("sh", "-c", f"""curl -d '{{"password": "{SECRET}"}}' https://x"""),
        ("bash", "-c", f'sh -c "app --token {SECRET}"'),
        ("app", "-----BEGIN RSA PRIVATE KEY-----\n" + SECRET),
        ("app", "-----BEGIN", "RSA", "PRIVATE", "KEY-----", "MIIE", SECRET, "-----END"),
    ],
)
def test_secret_is_redacted(words: tuple[str, ...]) -> None:
    assert SECRET not in " ".join(redact(words))


@pytest.mark.parametrize(
    "token", [JWT, "ghp_" + "a1" * 18, "AKIAIOSFODNN7EXAMPLE", "xoxb-12345678-ab"]
)
def test_token_is_redacted_by_its_format(token: str) -> None:
    assert token not in " ".join(redact(("app", token, f"x={token}")))


def test_other_words_stay() -> None:
    words = ("java", "-Xmx512m", "-jar", "/srv/app.jar", "--port=8080", "http://db:5432/x", "")
    assert redact(words) == words
    for line in (
        "docker run -p 80:80 -e MODE=fast nginx",
        "java -cp /x org.example.TokenServer --port 8080",
        "celery -A proj worker --concurrency=4",
        "ssh -i /home/me/.ssh/id_rsa me@host uptime",
        "tail -n 5 /var/log/monkey.log keyboard=de",
    ):
        assert redact(line.split()) == tuple(line.split())
    assert redact(("sh", "-c", "cd /x;  exec app --port 1")) == (
        *("sh", "-c"),
        "cd /x;  exec app --port 1",
    )


def test_name_of_a_secret_stays() -> None:
    assert redact(("a", "--password=x", "--token", "y")) == (
        "a",
        "--password=***",
        "--token",
        "***",
    )


def test_command_line_is_bounded() -> None:
    result = redact(["x" * 100_000] * 1000)
    assert len(result) == 65
    assert result[-1] == "…"
    assert max(map(len, result)) == 257


def test_planted_secret_is_redacted_in_any_context() -> None:
    rng = random.Random(0)  # noqa: S311  no secret
    names = ["password", "DB_PASSWD", "apiKey", "x-auth-token", "client.secret", "PRIVATE_KEY"]
    plain = ["app", "-v", "--port=1", "/srv/x", "a=b", "--", "", "größe", "x;y", "'", '"', "\\"]
    for _ in range(2000):
        secret = "S" + "".join(rng.choices("abcXYZ0189+/.%!^*$", k=rng.randrange(8, 40)))
        name = rng.choice(names)
        forms = (
            [f"--{name}", secret],
            [f"--{name}={secret}"],
            [f"-D{name}={secret}"],
            [f"{name}={secret}"],
            [f"{name}: {secret}"],
            [f"https://me:{secret}@host/x"],
            [f"Authorization: Bearer {secret}"],
            [f"exec app --{name}={secret} --port 1"],
            [f"exec app --{name} {secret} --port 1"],
            [f"{{'{name}': '{secret}'}}"],
        )
        words = [
            *rng.choices(plain, k=rng.randrange(1, 9)),
            *rng.choice(forms),
            *rng.choices(plain, k=rng.randrange(9)),
        ]
        assert secret not in " ".join(redact(words)), words


@pytest.mark.parametrize(
    "unit",
    ["auth", "pass ", "eyJa-", "[", "'", "\"'", "- ", "://", "x=", "a:", "key.", "\\", "a@"],
)
def test_hostile_words_take_no_long_time(unit: str) -> None:
    result = redact([unit * 5000 + "!"] * 64)
    assert len(result) == 64
