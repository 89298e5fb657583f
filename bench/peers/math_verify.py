"""Math-Verify on answer pairs: how long it takes a pair, and how often it agrees with the expected verdict.

    pip install -r bench/peers/requirements-math-verify.txt
    python bench/peers/math_verify.py FILE.jsonl [REPEATS]

Lines hold `answer` and `completion`, and may hold `expected`, `precision`, `strict` and `allow_set_relation_comp`.
What is timed is `parse` of both sides and `verify`, on one core, best of REPEATS (1), as
`cargo run --release -p koan-reward --example math_speed FILE.jsonl` times ours. Parsed texts are kept, so a second round
measures a table look-up; completions of a model are new. Writes one JSON object.
"""

import json
import statistics
import sys
import time

sys.path.pop(0)  # This folder holds a file of the package's name.
from math_verify import parse, verify  # noqa: E402


def judge(case):
    options = {
        "float_rounding": case.get("precision", 6),
        "strict": case.get("strict", True),
        "allow_set_relation_comp": case.get("allow_set_relation_comp", False),
    }
    # Its time-outs need signals; they stay at their defaults, as its users have them.
    return verify(parse(case["answer"]), parse(case["completion"]), **options)


def main():
    with open(sys.argv[1]) as lines:
        cases = [json.loads(line) for line in lines]
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    judge(cases[0])  # Imports and grammars are loaded by the first call.
    times, agree, labelled = [], 0, 0
    for case in cases:
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            verdict = judge(case)
            best = min(best, time.perf_counter() - start)
        times.append(best * 1e6)
        if "expected" in case:
            labelled += 1
            agree += verdict == case["expected"]
    result = {
        "cases": len(cases),
        "median_us": statistics.median(times),
        "mean_us": statistics.fmean(times),
        "max_us": max(times),
        "agree": agree,
        "labelled": labelled,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
