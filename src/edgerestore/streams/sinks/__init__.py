"""Sinks: files, recordings, network targets, pipes, windows and virtual cameras."""
