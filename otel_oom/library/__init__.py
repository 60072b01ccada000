"""Events within a program of the user's own: the agent's path up to enrichment."""
