"""Events as OTLP: enriched events in, encoded requests out."""
