"""The recipe of the default model: degradations in, a checkpoint and its curves out."""
