"""Kernel logs of the past into the same events, sent by the same way.

The flow is that of the folder: `sources` says which files, `unpack` opens them, `blocks` finds
what is near a kill, the forms (`syslog`, `dmesg`, `journal`, by way of `lines`) make lines of it,
`timeline` their times, `kills` events, `known` keeps each to once, `send` or `show` ends it.
"""
