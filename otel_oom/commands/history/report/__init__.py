"""``otel-oom report``: all kills of a host in a time, by service, by limit and by hour.

``summary`` counts the events of the history, ``repeats`` joins the kills of one victim, ``page``
describes both for the terminal and for HTML.
"""
