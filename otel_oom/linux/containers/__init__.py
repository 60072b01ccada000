"""The containers of a host: which one a process is in, and what its runtime knows of it.

The kernel gives the ids in a cgroup's path. Names, images and labels are read from the runtimes'
files when a container starts, because they may be gone when one of its processes is killed.
"""
