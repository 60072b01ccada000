"""The host's history: the list of its events, and the page of one event.

``queries`` reads rows of the event log. ``entry`` returns each event as OTLP: the encoded copy, or
a fresh encoding if it was not queued yet. ``table`` and ``page`` show what is decoded from that, so
that a page and a backend say the same.
"""
