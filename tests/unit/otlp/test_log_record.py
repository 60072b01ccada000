"""The limit of attributes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.testlib.samples.events import (
    sample_enriched_kill,
)
from tests.testlib.samples.otlp import log_record
from tests.testlib.servers.backend import attributes_to_dict


@pytest.mark.unregistered("resource: a.")
def test_record_and_resource_stay_within_the_limit_of_loki() -> None:
    """Loki accepts 128 attributes, and adds a dozen of its own."""
    kill = sample_enriched_kill()
    small = log_record(kill)
    assert small.dropped_attributes_count == 0
    all_names = attributes_to_dict(small.attributes).keys()
    too_many = 12
    free = 112 - len(all_names) - len(kill.resource)
    resource = {**kill.resource, **{f"a.{number}": "x" for number in range(free + too_many)}}
    large = log_record(replace(kill, resource=resource))
    names = attributes_to_dict(large.attributes).keys()
    assert len(names) + len(resource) == 112
    assert large.dropped_attributes_count == len(all_names) - len(names) == too_many
    assert all(name.startswith(("oom.host.", "oom.victim.memcg.")) for name in all_names - names)
