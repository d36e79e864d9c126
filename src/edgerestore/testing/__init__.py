"""Conformance tests for extensions: runtimes, predictors, sources and sinks; needs pytest."""
