"""Pages of reports: jinja2 templates under one stylesheet, each page one self-contained file.

Every value that a template inserts is cleaned of characters that a page cannot show, and escaped
except in Markdown. jinja2 and matplotlib come with the ``convert`` extra and are imported when a
page or a chart is made, not before.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError
from ..extensions import install_command
from .tables import plain

if TYPE_CHECKING:
    import jinja2

__all__ = ["render", "require_page_libraries", "restyled"]

_LIBRARIES = ("jinja2", "matplotlib")
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def require_page_libraries() -> None:
    """Check, without importing them, that the libraries of pages and charts are installed.

    Raises
    ------
    MissingExtraError
        Names the library and the extra.
    """
    for name in _LIBRARIES:
        if find_spec(name) is None:
            raise MissingExtraError(f"HTML reports need {name}: {install_command('convert')}")


def render(template: str, **context: object) -> str:
    """Return a template filled in.

    Parameters
    ----------
    template : str
        File in ``reports/templates``.
    **context
        The template's variables: text, numbers, `Table`, `Picture`, and charts as SVG.
        A variable that the template uses and the context lacks is an error.

    Raises
    ------
    MissingExtraError
        When jinja2 is not installed.
    """
    require_page_libraries()
    return _environment().get_template(template).render(context)


def restyled(page: str) -> str:
    """Return a page with the current stylesheet, in place of the first that it has.

    A section can be added to a page that an earlier version wrote.
    """
    style = render("style.html").strip()
    return _STYLE.sub(lambda _: style, page, count=1)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("edgerestore.reports"),
        autoescape=jinja2.select_autoescape(disabled_extensions=("md",), default=True),
        finalize=_cleaned,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _cleaned(value: Any) -> Any:
    return plain(value) if type(value) is str else value
