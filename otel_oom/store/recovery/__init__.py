"""Recovery of the store: full disk, damaged file, corrupt rows."""
