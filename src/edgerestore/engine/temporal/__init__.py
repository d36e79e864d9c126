"""Work that is left out: what a frame has in common with the one before, and tiles in turn."""
