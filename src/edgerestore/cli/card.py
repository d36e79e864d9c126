"""``edgerestore card``: the page on a model."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .printing import echo

__all__ = ["card_command"]

# Options by their panel of the help.
_origin, _pictures = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Origin", "Pictures")
)


def card_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's name or a bundle's folder.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for NAME.md and its pictures.", show_default=False
        ),
    ],
    training: Annotated[
        list[Path] | None,
        _origin(
            metavar="OUT",
            help="Folder that edgerestore train wrote; repeatable, each going on from the last.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None, _origin(metavar="DIR", help="Dataset folder; repeatable.")
    ] = None,
    recipe: Annotated[
        str | None, _origin(help="A recipe's name, or FILE.py. Default: the last run's.")
    ] = None,
    sources: Annotated[
        list[Path] | None,
        _origin(metavar="FILE", help="Text on sources and licences to quote; repeatable."),
    ] = None,
    measure: Annotated[
        list[Path] | None,
        _pictures(
            metavar="DIR",
            help="Held-out photographs, or pairs in DIR/inputs and DIR/targets, to measure on;"
            " repeatable.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        _pictures(
            metavar="DIR", help="The same, of pictures that may be published: two are shown."
        ),
    ] = None,
    degrade: Annotated[
        list[str] | None,
        _pictures(
            metavar="KIND",
            help="Degradation of photographs; repeatable. Default: those that fit the task.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-y", help="Replace the card.")] = False,
) -> None:
    """Write a model's card: origin, limits, figures, pictures."""
    # Imported here: PyTorch takes seconds, and --help must not.
    from ..bundle.bundle import Bundle
    from ..reports.pages import require_page_libraries
    from ..streams.progress import CountedBar

    bundle = Bundle.find(model)
    require_page_libraries()  # the extra that has them has PyTorch too
    from ..cards.card import write_card
    from ..cards.origin import find_origin

    # A line on each precision of each evaluation would be the card's table again.
    logging.getLogger("edgerestore").setLevel(logging.WARNING)
    origin = find_origin(
        bundle.manifest,
        recipe=recipe,
        training=training or (),
        data=data or (),
        sources=sources or (),
    )
    with CountedBar("pictures") as bar:
        page = write_card(
            bundle,
            output,
            origin,
            measured_on=measure or (),
            pictures=pictures,
            degradations=degrade or (),
            overwrite=overwrite,
            tick=bar.tick,
        )
    echo(f"wrote {page}")
