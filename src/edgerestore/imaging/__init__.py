"""Pictures in memory and in files: arrays, metrics, degradations, image formats."""
