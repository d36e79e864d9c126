"""Conformance tests for other packages' runtimes and predictors; needs pytest."""
