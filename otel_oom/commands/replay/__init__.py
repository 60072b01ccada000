"""Kernel logs of the past into the same events, sent by the same way.

The flow: `sources` says which files and `rotation` how late they can be, `unpack` opens them,
`blocks` and `export` find what is near a kill, `lines` has `syslog`, `dmesg` or `journal` make the
kernel's lines of that, `timeline` tells their times, `boots` and `kills` make events of them,
`known` lets each through once, and `send` or `show` is where they end. `run` joins it all.
"""
