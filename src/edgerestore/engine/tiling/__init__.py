"""Tiling: grids, windows, submission of tiles, tile size."""
