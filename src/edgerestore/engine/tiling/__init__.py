"""Cutting frames, choosing the size of the cut, and putting outcomes together."""
