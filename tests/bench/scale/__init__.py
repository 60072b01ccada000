"""What grows with the size of a host, of a storm and of the store, and how."""
