"""The host's own history of what was killed: the list of it, and the page of one kill.

``asked`` gets rows out of the journal, ``entry`` makes OTLP of each: what it was told as or, of
what is not told yet, what it would be told as now. All that is shown is read out of that again
(``record``), so that a page and a backend say the same. ``table`` and ``page`` are pure.
"""
