"""The agent's own life: what it has done, whether it is well, and that it lives when others die."""
