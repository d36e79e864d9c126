"""Parts of a report's page, which needs nothing but itself: no network, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from ..imaging.arrays import Planes
from .text_grid import plain

__all__ = ["figure", "highlights", "page", "pairs", "safe", "section", "table"]

_JPEG_QUALITY = 82

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#5b6475;--line:#dfe3ea;--page:#f6f7f9;
--card:#fff;--good:#0a7f4f;--accent:#2f5fd0}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2b323e;
--page:#12151b;--card:#1a1f28;--good:#4fd39a;--accent:#8fb0ff}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 3rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.05rem;margin:0 0 .75rem}
p{margin:.25rem 0}.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:1.1rem 1.25rem;margin-top:1rem;overflow-x:auto}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;
margin-top:1.25rem}.facts div{background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:.7rem .9rem}.facts b{display:block;font-size:1.15rem;
font-variant-numeric:tabular-nums}.facts span{color:var(--soft);font-size:.82rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .75rem .35rem 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}tr:last-child td{border:0}
th{font-weight:600;color:var(--soft);font-size:.82rem}
.pictures{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.75rem;
margin-bottom:.9rem}figure{margin:0}figure img{width:100%;height:auto;display:block;
border-radius:6px;image-rendering:auto}figcaption{font-size:.82rem;color:var(--soft);
margin-top:.3rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.25rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.good{color:var(--good)}
"""


def page(title: str, body: str) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Of the window.
    body : str
        HTML: sections, and what stands above them.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{safe(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def highlights(cells: Sequence[tuple[str, str]]) -> str:
    """Return numbers in large print, each with its words below."""
    made = "".join(f"<div><b>{safe(a)}</b><span>{safe(b)}</span></div>" for a, b in cells)
    return f'<div class="facts">{made}</div>'


def section(title: str, content: str, note: str = "", beside: str = "") -> str:
    """Return a section.

    Parameters
    ----------
    title : str
    content : str
        HTML.
    note : str
        Stands below the content.
    beside : str
        Stands beside the title: the machine that the numbers hold for.
    """
    below = f'<p class="soft">{safe(note)}</p>' if note else ""
    where = f' <span class="beside">{safe(beside)}</span>' if beside else ""
    return f"<section><h2>{safe(title)}{where}</h2>{content}{below}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> str:
    """Return a table, one of its rows marked where ``marked`` is its index."""

    def line(tag: str, cells: Sequence[str], kind: str = "") -> str:
        return f"<tr{kind}>{''.join(f'<{tag}>{safe(cell)}</{tag}>' for cell in cells)}</tr>"

    kinds = (' class="marked"' if at == marked else "" for at in range(len(rows)))
    lines = "".join(line("td", row, kind) for row, kind in zip(rows, kinds, strict=True))
    return f"<table>{line('th', head)}{lines}</table>"


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and what stands for them, as a list."""
    return f"<dl>{''.join(f'<dt>{safe(a)}</dt><dd>{safe(b)}</dd>' for a, b in rows)}</dl>"


def figure(planes: Planes, caption: str, *, lossless: bool = False) -> str:
    """Return a picture with its caption.

    Parameters
    ----------
    planes : ndarray, f32 [1, C, H, W] in [0, 1]
    caption : str
    lossless : bool
        Every pixel as it is, for what JPEG would hide.
    """
    levels = np.rint(np.clip(np.nan_to_num(planes[0]), 0, 1) * 255).astype(np.uint8)
    pixels = np.ascontiguousarray(levels.transpose(1, 2, 0)[..., ::-1])
    if lossless:
        kind, options = "webp", [cv2.IMWRITE_WEBP_QUALITY, 101]  # above 100 is lossless
    else:
        kind, options = "jpeg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, encoded = cv2.imencode(f".{kind}", pixels, options)
    data = base64.b64encode(encoded.tobytes()).decode()
    return (
        f'<figure><img alt="{safe(caption)}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{safe(caption)}</figcaption></figure>"
    )


def safe(text: str) -> str:
    """Return a text for a page: nothing in it is taken for HTML."""
    return escape(plain(text))
