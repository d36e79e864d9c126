"""The cards of the shipped models: each is there, of these weights, and in the navigation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgerestore.bundle.bundle import Bundle, model_names
from edgerestore.cards.card import card_files

ROOT = Path(__file__).resolve().parents[2]
CARDS = ROOT / "docs" / "models"
REMAKE = "make it again: edgerestore card"


def digests(page):
    """Return the digest of each variant that a card was made for."""
    return dict(re.findall(r"^\| (fp32|fp16|int8) \| ([0-9a-f]{16}) \|", page, re.MULTILINE))


@pytest.mark.parametrize("name", model_names())
def test_a_shipped_model_has_a_card_of_its_weights(name):
    bundle = Bundle.find(name)
    page = card_files(name, CARDS)[0].read_text()
    stored = {variant: bundle.digest(variant) for variant in bundle.manifest.variants}
    assert digests(page) == stored, f"docs/models/{name}.md is of other weights; {REMAKE}"
    assert f"# {name}\n" in page
    nav = (ROOT / "mkdocs.yml").read_text()
    assert f"- models/{name}.md\n" in nav


def test_a_card_is_of_a_shipped_model_and_shows_what_is_there():
    pages = {card_files(name, CARDS)[0] for name in model_names()}
    assert set(CARDS.glob("[!.]*.md")) == pages, f"a card of no shipped model, or none; {REMAKE}"
    shown = {
        CARDS / file for page in pages for file in re.findall(r"\]\((\S+?)\)", page.read_text())
    }
    drawn = {path for path in CARDS.glob("[!.]*") if path.suffix in {".jpg", ".png"}}
    assert drawn == shown
    assert all(path.stat().st_size <= 80_000 for path in drawn if path.suffix == ".jpg")
