"""Conversion by kind of output."""
