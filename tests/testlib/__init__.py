"""What several tests share: the real agent as a process, real kills, the kernel's own account."""
