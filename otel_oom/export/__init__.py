"""Sending: endpoints, transports, the backend's answers, and what is done about each."""
