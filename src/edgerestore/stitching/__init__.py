"""Mosaics of microscope tiles: pairs measured, tiles placed, every pair audited."""
