"""Bundles: converted models on disk, and their manifests."""
