"""The units in a cgroup's path, compared with systemd's own parsing."""

from __future__ import annotations

import pytest

from otel_oom.linux.systemd.units import Units, display_name, find_owning_unit, find_units

USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "unit", "slice_", "user_unit"),
    [
        ("/system.slice/nginx.service", "nginx.service", "system.slice", None),
        ("/system.slice/nginx.service/worker", "nginx.service", "system.slice", None),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "getty@tty1.service",
            "system-getty.slice",
            None,
        ),
        ("/init.scope", "init.scope", None, None),
        ("/user.slice/user-0.slice/session-3.scope", "session-3.scope", "user-0.slice", None),
        (
            f"{USER}/app.slice/web.service",
            "user@1000.service",
            "user-1000.slice",
            "web.service",
        ),
        (
            rf"{USER}/app.slice/app-org.kde.konsole\x2d77.scope/x",
            "user@1000.service",
            "user-1000.slice",
            r"app-org.kde.konsole\x2d77.scope",
        ),
        (f"{USER}/init.scope", "user@1000.service", "user-1000.slice", "init.scope"),
        (f"{USER}/user.slice", "user@1000.service", "user-1000.slice", None),
        # A folder `memory.service` would look like a file of the kernel's memory controller.
        ("/system.slice/_memory.service", "memory.service", "system.slice", None),
        # systemd in a container: the unit is the container's, not that of the systemd in it.
        (
            "/machine.slice/libpod-0123.scope/system.slice/nginx.service",
            "libpod-0123.scope",
            "machine.slice",
            None,
        ),
        ("/system.slice", None, "system.slice", None),
        ("/docker/0123/system.slice/nginx.service", None, None, None),
        ("/system.slice/web front.service", None, "system.slice", None),
        ("…/nginx.service", None, None, None),
        ("/", None, None, None),
        ("", None, None, None),
    ],
)
def test_units_are_those_of_systemd(
    path: str, unit: str | None, slice_: str | None, user_unit: str | None
) -> None:
    """The outermost unit after the slices, and a user's unit in that user's manager."""
    assert find_units(path) == Units(unit, slice_, user_unit)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/system.slice/web.service", "web.service"),
        ("/system.slice", "system.slice"),
        (f"{USER}/app.slice/web.service", "web.service"),
        (f"{USER}/app.slice", "app.slice"),
        (USER, "user@1000.service"),
        ("/system.slice/web.service/worker", None),
        ("/system.slice/web.service/nginx.slice", None),
        ("/system.slice/web.service/x/web.service", None),
        ("/docker/0123/nginx.slice", None),
        (f"{USER}/app.slice/web.service/app.slice", None),
        ("/docker/0123", None),
        ("/", None),
    ],
)
def test_the_owner_of_a_cgroup(path: str, owner: str | None) -> None:
    """A cgroup that a service made within its own is not the service's."""
    assert find_owning_unit(path) == owner


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("nginx.service", "nginx"),
        ("getty@tty1.service", "getty@tty1"),
        (r"web\x2dfront.service", "web-front"),
        (r"caf\xc3\xa9.service", "café"),
        (r"bad\xff.service", r"bad\xff"),
        (r"esc\x1b.service", r"esc\x1b"),
    ],
)
def test_the_display_name_of_a_service(unit: str, name: str) -> None:
    """Escapes are characters again, unless these are not printable."""
    assert display_name(unit) == name
