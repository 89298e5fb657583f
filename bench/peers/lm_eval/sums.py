"""Writes sums.jsonl, the data of the task koan_sums for lm-evaluation-harness.

    pip install 'lm-eval[api]' transformers     # its tokenizer counts the context's tokens
    python sums.py
    koan serve --model MODEL_DIR
    lm_eval --model local-completions --include_path . --tasks koan_sums --output_path out --log_samples --model_args \
      model=NAME,base_url=http://127.0.0.1:8000/v1/completions,tokenizer=MODEL_DIR,num_concurrent=8
"""

import json
import random


def main():
    rng = random.Random(1)
    with open("sums.jsonl", "w", encoding="utf-8") as out:
        for _ in range(50):
            a, b = rng.randrange(10), rng.randrange(10)
            choices = sorted({a + b, a + b + 1, max(0, a + b - 1), a + b + 10})
            row = {"question": f"What is {a} plus {b}?", "choices": [str(c) for c in choices], "answer": choices.index(a + b)}
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
