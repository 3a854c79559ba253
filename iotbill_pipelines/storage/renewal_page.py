"""The renewal desk as one HTML file: opens offline, prints well, carries no script."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, StrictUndefined

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { margin: 32px; color: #1d2733; font: 15px/1.45 "Segoe UI", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 22px; color: #1f3a5f; }
table { border-collapse: collapse; }
th, td { padding: 6px 10px; border-bottom: 1px solid #d8e0ea; text-align: left;
  vertical-align: top; }
th { color: #5c6b7c; font-weight: 600; }
tr.flagged td { background: #fff6e5; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if rows %}
<table>
<thead><tr>{% for column in columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr{% if row[-1] %} class="flagged"{% endif %}>
{% for cell in row %}<td>{{ "" if cell is none else cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>Nothing ends, and nothing has lapsed.</p>
{% endif %}
</body>
</html>
"""


def render_renewals(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the page; rows with flags (a last cell that is not empty) stand out."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_PAGE).render(title=title, columns=columns, rows=rows)
