"""Whether PEFT loads an adapter that Koan trained, and computes what Koan does with it.

    koan score --model BASE --adapter ADAPTER --input rows.jsonl --out scored.jsonl
    python3 check_adapter.py BASE ADAPTER scored.jsonl

`scored.jsonl` has `prompt_ids`, `completion_ids` and `logprobs`, or texts that the tokenizer encodes. Prints the largest difference.
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, scored = sys.argv[1:4]
plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(plain, adapter).eval()
trained = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
largest, change = 0.0, 0.0


def log_probs(row):
    ids = torch.tensor([row["prompt_ids"] + row["completion_ids"]])
    n = len(row["completion_ids"])
    logits = model(input_ids=ids).logits[0, -n - 1 : -1].double()
    return torch.log_softmax(logits, -1).gather(1, ids[0, -n:, None])[:, 0]


with torch.inference_mode():
    for row in map(json.loads, open(scored)):
        own = torch.tensor(row["logprobs"], dtype=torch.float64)
        with_adapter = log_probs(row)
        with model.disable_adapter():
            change = max(change, (log_probs(row) - with_adapter).abs().max().item())
        largest = max(largest, (with_adapter - own).abs().max().item())
print(json.dumps({"adapter_parameters": trained, "largest_difference": largest, "largest_change_by_adapter": change}))
