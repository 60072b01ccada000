"""The values that travel through the stages: frozen, without I/O.

What a source could not know is ``None``, never zero.
"""
