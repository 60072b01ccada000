"""Formats in which kernel logs are kept."""
