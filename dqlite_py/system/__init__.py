"""The real operating system behind the seams: clock, threads, disk, network."""
