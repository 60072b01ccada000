"""Servers of the tests.

Real ones (Collector, Jaeger, VictoriaLogs) are built from pinned sources and run on loopback;
`tests.testlib.fixtures` offers them to pytest. The others run in the test's own process.
"""
