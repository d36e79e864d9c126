"""Predictors: one model, an ensemble, a cut-out."""
