"""Export to OTLP backends: transports, results of requests, and retries."""
