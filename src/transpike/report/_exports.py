"""Tables as CSV, Markdown and LaTeX.

A table has its title, the number of samples and the seed with it: as comment lines in CSV, above it in Markdown, as the
caption in LaTeX. Numbers in CSV have all digits; the other formats have the digits of the terminal.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from transpike.report._table import Table, one_line

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_\allowbreak{}", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "µ": r"\textmu{}", "θ": r"$\theta$", "β": r"$\beta$", "τ": r"$\tau$", "κ": r"$\kappa$", "γ": r"$\gamma$",
    "Γ": r"$\Gamma$", "λ": r"$\lambda$", "φ": r"$\varphi$", "Ω": r"$\Omega$", "×": r"$\times$", "·": r"$\cdot$",
    "≤": r"$\le$", "≥": r"$\ge$", "±": r"$\pm$", "−": r"$-$", "…": r"\ldots{}", "½": r"$\frac12$", "∞": r"$\infty$",
    "→": r"$\to$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}",  # the last two mean something after the end of a row
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes as the beginning of a formula."""


def csv_text(tables: Sequence[Table]) -> str:
    """Every table with comment lines before it, separated by an empty line; line ends are CR LF (RFC 4180)."""
    out = io.StringIO()
    writer = csv.writer(out)
    for number, table in enumerate(tables):
        out.write("\r\n" if number else "")
        for line in (table.title, *table.notes):
            out.write(f"# {one_line(line)}\r\n")
        writer.writerow([_safe(column.title) for column in table.columns])
        for row in table.rows:
            writer.writerow([_value(value) for value in row])
    return out.getvalue()


def _value(value: Any) -> str:
    """A number with all digits; a text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _safe(value) if isinstance(value, str) else repr(value)


def _safe(text: str) -> str:
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def markdown(tables: Sequence[Table]) -> str:
    """Tables of GitHub's Markdown, each below its title."""
    parts = []
    for table in tables:
        heads = [_marked(column.title) for column in table.columns]
        rules = [":---" if column.name else "---:" for column in table.columns]
        body = [[_marked(text) for text in row] for row in table.texts()]
        body = [[f"**{t}**" if n in table.strong and t else t for t in row] for n, row in enumerate(body)]
        lines = [f"| {' | '.join(row)} |" for row in (heads, rules, *body)]
        notes = "; ".join(map(_marked, table.notes))
        parts.append("\n".join([f"**{_marked(table.title)}**" + (f" ({notes})" if notes else ""), "", *lines, ""]))
    return "\n".join(parts)


def _marked(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def latex(tables: Sequence[Table]) -> str:
    """Each table as a ``tabular`` with booktabs rules, in a float with its caption; plain LaTeX, any engine."""
    parts = ["% \\usepackage{booktabs,textcomp}\n"]
    for table in tables:
        aligned = "".join("l" if column.name else "r" for column in table.columns)
        heads = " & ".join(_tex(column.title) for column in table.columns)
        body = [
            " & ".join(f"\\textbf{{{_tex(t)}}}" if n in table.strong and t else _tex(t) for t in row) + r" \\"
            for n, row in enumerate(table.texts())
        ]
        parts.append(
            "\n".join([
                r"\begin{table}", r"  \centering", f"  \\caption{{{_tex(table.caption)}.}}",
                f"  \\label{{tab:{table.name}}}",
                f"  \\begin{{tabular}}{{{aligned}}}", r"    \toprule", f"    {heads} \\\\", r"    \midrule",
                *(f"    {line}" for line in body), r"    \bottomrule", r"  \end{tabular}", r"\end{table}", "",
            ])
        )  # fmt: skip
    return "\n".join(parts)


def _tex(text: str) -> str:
    made = "".join(_LATEX.get(c, c) for c in one_line(text)).replace("--", "-{}-")
    return re.sub(r"^-(?=\d)", "$-$", made)  # a minus sign, not a hyphen


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {".csv": csv_text, ".md": markdown, ".tex": latex}
"""File extension → what makes the text of tables."""
