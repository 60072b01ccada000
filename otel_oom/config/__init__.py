"""Environment variables and their defaults."""
