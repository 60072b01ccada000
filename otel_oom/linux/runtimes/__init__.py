"""Language runtimes and servers: recognise a program's, and select its memory settings."""
