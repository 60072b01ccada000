"""Chromium without a display, for looking at pages as a person would."""
