"""Recovery of the store: full disk, failed file, corrupt rows."""
