"""Compare greedy completions of `koan generate` with the reference of greedy.py.

Usage: python compare_greedy.py EXPECTED.jsonl GOT.jsonl

EXPECTED has lines {"id", "prompt_ids", "token_ids", "margins"}; GOT has lines
{"id", "prompt_ids", "completions": [{"token_ids", ...}, ...], ...}, of which the
first completion counts. A final end token (--eos, default 2) is left out of the
comparison, since one side may leave it off. Exits with 1 if anything is missing or differs
with a reference margin over --margin at the first difference (there a rounding
error can't explain it).
"""

import argparse
import json
import sys


def read(path):
    with open(path, encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, filter(str.strip, file))}


def strip_end(tokens, eos):
    return tokens[:-1] if tokens and tokens[-1] == eos else tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("expected")
    parser.add_argument("got")
    parser.add_argument("--eos", type=int, default=2)
    parser.add_argument("--margin", type=float, default=0.01)
    args = parser.parse_args()

    expected, got = read(args.expected), read(args.got)
    prompts_agree = tokens_agree = missing = wrong = 0
    for key, want in expected.items():
        have = got.get(key)
        if have is None:
            missing += 1
            print(f"{key}: missing")
            continue
        same_prompt = have["prompt_ids"] == want["prompt_ids"]
        prompts_agree += same_prompt
        if not same_prompt:
            print(f"{key}: prompt_ids differ")
        a = strip_end(want["token_ids"], args.eos)
        b = strip_end(have["completions"][0]["token_ids"], args.eos)
        if a == b:
            tokens_agree += 1
            wrong += not same_prompt
            continue
        position = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        # position can be one past the end only if the reference hit the token limit.
        margin = want["margins"][position] if position < len(want["margins"]) else float("nan")
        wrong += not (same_prompt and margin <= args.margin)
        print(f"{key}: first difference at token {position}, reference margin {margin:.5f}")
    total = len(expected)
    print(f"prompt_ids agree: {prompts_agree}/{total}")
    print(f"tokens agree entirely: {tokens_agree}/{total}")
    print(f"missing: {missing}, different beyond margin {args.margin}: {wrong}")
    sys.exit(1 if missing or wrong else 0)


if __name__ == "__main__":
    main()
