"""Formats in which programs store kernel logs."""
