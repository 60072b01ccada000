"""The containers of a host: which one a process is in, and what its runtime says of it.

First comes what the kernel says: the ids in a cgroup's path. What they stand for is read from
the runtimes' own files as containers start, so that it is known when one is killed and gone.
"""
