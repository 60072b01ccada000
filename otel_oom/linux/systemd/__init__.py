"""Readers of systemd: units, unit files, journal."""
