"""Sources: cameras, network streams, pipes, files and Python iterables."""
