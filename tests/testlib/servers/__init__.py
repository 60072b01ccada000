"""The real servers that the tests start: built from pinned sources, run on loopback.

`build` makes the binaries, `process` runs one, and `collector`, `jaeger` and `victorialogs` know
how each is configured and asked. `fixtures` offers them to pytest.
"""
