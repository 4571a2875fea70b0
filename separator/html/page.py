"""Parts shared by all HTML reports: a self-contained page that follows the reader's light or dark theme."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal

from separator.html import player

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1d2330; --rule: #d5dae3; --faint: #5b6473; }
@media (prefers-color-scheme: dark) { :root { --page: #10141b; --text: #e8ebf2; --rule: #39414f; --faint: #a5aebd; } }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 74rem; margin: 0 auto;
  padding: 1.5rem 1rem 3rem; color: var(--text); background: var(--page); }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .text td { text-align: left; }
.text th, .text td { white-space: normal; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; border-radius: 8px; background: #fff; }
small, .faint { color: var(--faint); }
pre { overflow-x: auto; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page.

    Args:
        title: title as plain text.
        parts: parts of the body as HTML. Empty parts are left out.
    """
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en" class="follows-system"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{player.STYLE}</style></head><body>\n{body}\n"
        f"<script>{player.SCRIPT}</script></body></html>\n"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], kind: Literal["numbers", "text"] = "numbers") -> str:
    """Return a table.

    Args:
        columns: headings as HTML, without one for the first column. Empty for no heading row.
        rows: cells as HTML. The first cell of a row is its heading.
        kind: "numbers" aligns cells to the right, "text" to the left.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in ("", *columns))
    lines = [f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) for first, *rest in rows]
    body = "".join(f"<tr>{line}</tr>" for line in ([head] if columns else []) + lines)
    return f'<div class="wide"><table class="{kind}">{body}</table></div>'
