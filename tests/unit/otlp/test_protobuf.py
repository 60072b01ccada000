"""The protobuf library without its implementation in Python."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf.internal import api_implementation

from tests.testlib.command import clean_environ

PROGRAM = """
import sys
from otel_oom.otlp.protobuf import import_protobuf

def loaded():
    return "google.protobuf.internal.python_message" in sys.modules

import_protobuf()
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

record = LogRecord(severity_number=17, body={"string_value": "a"})
print(loaded(), LogRecord.FromString(record.SerializeToString()) == record)

from google.protobuf import json_format, text_format
from google.protobuf.internal import python_message
import_protobuf()
print(json_format.MessageToJson(record, indent=None))
print(text_format.MessageToString(record, as_one_line=True))
print(loaded(), hasattr(python_message, "GeneratedProtocolMessageType"))
"""


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_the_implementation_in_python_is_loaded_only_where_it_is_used(implementation: str) -> None:
    """Generated classes and the library's other modules work with and without it."""
    if implementation == "upb" and api_implementation.Type() != "upb":
        pytest.skip("this machine has no upb")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**clean_environ(), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{implementation == 'python'} True",
        '{"severityNumber": "SEVERITY_NUMBER_ERROR", "body": {"stringValue": "a"}}',
        'severity_number: SEVERITY_NUMBER_ERROR body { string_value: "a" }',
        "True True",
    ]
