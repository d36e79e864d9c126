"""Graphs: export, signature, receptive field, IR."""
