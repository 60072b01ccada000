"""Symbols of user frames, looked up by a process without rights in files of tenants.

A tenant chooses these files: their number, their links, their tables. So one process for each stack
opens them, gives up all rights, reads them, and ends: by itself, or killed at its deadline.
"""
