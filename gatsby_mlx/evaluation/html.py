"""The building blocks of a page: sections, figures, tables, and stories with their mentions marked."""

from collections.abc import Sequence
from html import escape

from gatsby_mlx.story.obsession import Obsession


def mark(story: str, obsession: Obsession) -> str:
    """Return `story` escaped for HTML, each mention of its obsession in a `mark` element.

    >>> mark("A green light & you.", Obsession())
    'A <mark>green light</mark> &amp; you.'
    """
    out, at = [], 0
    for mention in obsession.pattern.finditer(story):
        out += [escape(story[at : mention.start()]), f"<mark>{escape(mention[0])}</mark>"]
        at = mention.end()
    return "".join([*out, escape(story[at:])])


def section(name: str, heading: str, body: str) -> str:
    """Return a section with the anchor `name`; `body` is HTML."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(heading)}</h2>\n{body}\n</section>\n'


def figure(plot: str, caption: str, table: str = "") -> str:
    """Return a figure; `plot` and `table` are HTML."""
    return f"<figure>\n{plot}\n<figcaption>{escape(caption)}</figcaption>\n{table}\n</figure>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], wrap: bool = False) -> str:
    """Return a table whose first column has the row headers. On a narrow screen it scrolls on its own.

    With `wrap` the row headers may take several lines.
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
