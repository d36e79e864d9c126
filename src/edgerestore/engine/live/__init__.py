"""Deprecated path of the control endpoint."""
