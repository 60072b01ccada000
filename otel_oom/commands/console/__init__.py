"""Text for a person on a terminal, or in a pipe."""
