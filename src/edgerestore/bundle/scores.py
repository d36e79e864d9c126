"""Figures of quality against ground truth that a manifest holds."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from .manifest import Manifest, Score

__all__ = ["stored_scores"]


def stored_scores(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the figures of quality against ground truth, the most telling first."""
    scores = list(manifest.scores)
    int8 = manifest.variants.get("int8")
    value = None if int8 is None else int8.quality.get("psnr_db")
    if not scores and isinstance(value, (int, float)):
        # What quantization measured, in the manifest's free facts.
        recipe = (manifest.calibration or {}).get("recipe")
        facts = recipe if isinstance(recipe, dict) else {}
        degraded = facts.get("degradation") or facts.get("flaw") or "degraded"  # older: flaw
        data = f"held-out crops of the calibration data, {degraded}"
        scores = [Score("PSNR", "dB", float(value), "int8", data)]
    return [_told(score) for score in scores]


def _told(score: Score) -> dict[str, Any]:
    """Return a figure for JSON, and in words: as a gain over the input where that is known."""
    value = f"{score.value:.4g} {score.unit}".strip()
    short, before = f"{value} {score.metric}", score.before
    if before is not None:
        gain = f"{score.value - before:+.3g} {score.unit}".strip()
        short, value = f"{gain} {score.metric}", f"{gain} {score.metric}, {before:.4g} to {value},"
    else:
        value = short
    where = f"{value} at {score.precision} on {score.data}"
    return {**to_builtins(score), "short": short, "text": where}
