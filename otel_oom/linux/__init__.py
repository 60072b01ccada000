"""Readers of a Linux host: no policy."""
