"""Renders the expressions beside this file with Python's Jinja2, set up as transformers sets it up.

    python golden.py        writes golden.json; needs jinja2

Each line of expressions.txt is a template; an expression alone is put in braces. Where Python fails, koan-text must fail
too. A line that begins with `! ` is refused by koan-text, by name; one that begins with `~ ` is known to differ.
"""

import datetime
import json
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent
VARIABLES = {
    "messages": [
        {"role": "system", "content": " Be <kind>.\n"},
        {"role": "user", "content": "What is 2 + 2?", "name": "Ann"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4", "tool_calls": None},
    ],
    "tool": {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"b": {"type": "number"}, "a": {"enum": [1, 2.5, None, True, "é\"'\n"]}}},
            "empty": {},
            "none": [],
        },
    },
    "numbers": [3, 1, 2],
    "names": ["Ann", "bob", "Cid"],
    "mixed": [1, "a", None, True, 2.0, [1, "x"], {"k": "v"}],
    "text": "The quick brown fox",
    "accented": "Élan, naïve 漢字 😀",
    "empty": "",
    "nothing": None,
    "yes": True,
    "big": 12345678901234567890,
    "x": 7,
    "f": 2.5,
}


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}`, which only marks."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(format):
    return datetime.datetime(2024, 7, 26).strftime(format)


def main():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    cases = []
    for line in (HERE / "expressions.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("##"):
            continue
        mark, source = (line[0], line[2:]) if line[:2] in ("! ", "~ ") else ("", line)
        source = source if "{{" in source or "{%" in source or "{#" in source else "{{ " + source + " }}"
        try:
            text = environment.from_string(source).render(**VARIABLES)
        except Exception:
            text = None
        cases.append({"source": source, "text": text, **({"mark": mark} if mark else {})})
    golden = {"made_by": f"golden.py with jinja2 {jinja2.__version__}", "variables": VARIABLES, "cases": cases}
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases)} cases, {sum(c['text'] is None for c in cases)} refused")


if __name__ == "__main__":
    main()
