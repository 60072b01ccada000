"""Tests in a real cluster of one node."""
