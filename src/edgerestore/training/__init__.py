"""Training: recipes, data, and the loop that makes a checkpoint and its curves."""
