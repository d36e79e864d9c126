"""Conversion of networks whose output is no image."""
