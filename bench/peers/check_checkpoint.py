"""Load folders that Koan wrote with transformers, and compare its log-probabilities with Koan's.

Usage: python check_checkpoint.py MODEL_DIR SCORED.jsonl [MODEL_DIR SCORED.jsonl ...]

SCORED.jsonl is what `koan score --model MODEL_DIR` wrote. Every weight must be found and none be left over.
Prints the mean and the largest absolute difference. Needs: torch, transformers.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM


def check(folder, scored):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (kind, info[kind])
    differences = []
    with torch.no_grad():
        for line in map(json.loads, open(scored)):
            prompt, completion = line["prompt_ids"], line["completion_ids"]
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            want = torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None]).flatten()
            differences += (want - torch.tensor(line["logprobs"])).abs().tolist()
    print(f"{folder}: {len(differences)} tokens, mean {sum(differences) / len(differences):.1e}, "
          f"largest {max(differences):.1e}")


if __name__ == "__main__":
    for pair in zip(sys.argv[1::2], sys.argv[2::2]):
        check(*pair)
