"""Conformance tests for those who add a runtime of their own; needs pytest."""
