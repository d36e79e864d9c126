"""Frames on their way: threads, bounds, telemetry and progress."""
