"""Renders the templates beside this file with transformers, as the tests expect koan-text to render them.

    python golden.py        writes golden.json; needs transformers and jinja2

The templates are our own, in the shapes of those that models come with. `strftime_now` is given a fixed day, since
koan-text gives it one.
"""

import datetime
import json
from pathlib import Path

import transformers
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Day


def message(role, content, **other):
    return {"role": role, "content": content, **other}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": -1.5, "note": "é \"q\" <x> & 'y'"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"], "empty": {}, "none": []},
    },
}
CONVERSATIONS = {
    "question": [message("user", "What is 2 + 2?")],
    "system": [message("system", "  Be kind.\n"), message("user", " Hello <b>&</b> ")],
    "turns": [
        message("system", "Be brief."),
        message("user", "One?"),
        message("assistant", "<think>\nhm\n</think>\n\n1"),
        message("user", "Two? 二"),
        message("assistant", "<think>\nso</think>2"),
    ],
    "two systems": [message("system", "A"), message("user", "B"), message("system", "C"), message("user", "D")],
    "reasoning": [message("user", "Q"), message("assistant", "A", reasoning_content="\nbecause\n")],
    "thinking": [message("user", "Q"), message("assistant", "A", thinking="because")],
    "no thinking": [message("system", "/no_think Be kind."), message("user", "Q"), message("assistant", "A")],
    "call": [
        message("user", "2 - 1.5?"),
        message("assistant", "", tool_calls=[CALL]),
        message("tool", "0.5"),
        message("assistant", "Half."),
        message("user", "Thanks"),
    ],
    "two calls": [
        message("user", "Twice?"),
        message("assistant", "Yes.", tool_calls=[CALL, CALL]),
        message("tool", "1"),
        message("tool", "2"),
    ],
}
VARIABLES = [{}, {"enable_thinking": False}, {"date_string": "1 Jan 2030"}]


def main():
    cases = []
    for template in sorted(HERE.glob("*.jinja")):
        source = template.read_text(encoding="utf-8")
        for name, messages in CONVERSATIONS.items():
            for tools in [None, [TOOL]]:
                for prompt, variables in [(False, {}), *[(True, v) for v in VARIABLES]]:
                    try:
                        rendered, _ = chat_template_utils.render_jinja_template(
                            conversations=[messages],
                            tools=tools,
                            chat_template=source,
                            add_generation_prompt=prompt,
                            **TOKENS,
                            **variables,
                        )
                        text = rendered[0]
                    except Exception:  # what the template refuses, koan-text refuses
                        text = None
                    if variables and (text is None or text == plain):
                        continue  # the template does not ask for them
                    plain = text
                    case = {"template": template.stem, "conversation": name, "tools": tools is not None}
                    cases.append({**case, "add_generation_prompt": prompt, "variables": variables, "text": text})
    golden = {
        "made_by": f"golden.py with transformers {transformers.__version__}",
        "tokens": TOKENS,
        "tools": [TOOL],
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (HERE / "golden.json").write_text(text + "\n", encoding="utf-8")
    refused = sum(case["text"] is None for case in cases)
    print(f"{len(cases)} cases, {refused} refused")


if __name__ == "__main__":
    main()
