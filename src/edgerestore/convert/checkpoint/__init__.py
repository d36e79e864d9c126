"""Checkpoints: files, unwrapping, detection, loaded models."""
