"""Temporal reuse: change detection, tile covers, and outcomes built on those before."""
