"""Panics of earlier boots, from pstore and systemd's journal."""
