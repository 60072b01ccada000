"""Kills in the OpenTelemetry SDK of a program of your own, printed as JSON.

    sudo .venv/bin/python examples/library.py

Each kill is a log record and a span, with the resource of its victim.
"""

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from otel_oom.pipeline import OomEvents

provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(ConsoleLogRecordExporter()))
spans = SimpleSpanProcessor(ConsoleSpanExporter())
with OomEvents(logger_provider=provider, span_processors=[spans]):
    input("watching: press Enter to stop\n")
