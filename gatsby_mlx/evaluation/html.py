"""The pieces that a page is put together from: sections, figures, tables, and stories with their mentions marked."""

from collections.abc import Sequence
from html import escape

from gatsby_mlx import text


def mark(story: str) -> str:
    """Return `story` escaped for HTML, each mention of the light inside a `mark` element."""
    out, at = [], 0
    for mention in text.MENTION.finditer(story):
        out += [escape(story[at : mention.start()]), f"<mark>{escape(mention[0])}</mark>"]
        at = mention.end()
    return "".join([*out, escape(story[at:])])


def section(name: str, heading: str, body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(heading)}</h2>\n{body}\n</section>\n'


def count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def figure(plot: str, caption: str, table: str) -> str:
    return f"<figure>\n{plot}\n<figcaption>{escape(caption)}</figcaption>\n{table}\n</figure>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], wrap: bool = False) -> str:
    """Return a table whose first column names its rows; it scrolls within itself where a phone is too narrow.

    With `wrap` the names may take several lines.
    """
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    ]
    kind = ' class="wrap"' if wrap else ""
    return f"""<div class="scroll" role="group" aria-label="{escape(caption)}" tabindex="0"><table{kind}>
<caption>{escape(caption)}</caption>
<thead><tr>{top}</tr></thead>
<tbody>
{chr(10).join(lines)}
</tbody></table></div>"""


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"
