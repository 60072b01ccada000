"""Enrichment of events with identity and advice: service, container, pod, unit, limit, stack."""
