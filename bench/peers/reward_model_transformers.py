"""Seconds to score answers with transformers' `LlamaForSequenceClassification`: what `koan bench score` measures.

    python3 reward_model_transformers.py MODEL_DIR [--answers 256] [--answer-tokens 128] [--prompt-tokens 16] [--batch 16]
        [--rounds 3] [--dtype float32]

Random tokens, each answer after a prompt of its own, in batches of one length: no padding. The head is random. The batch size that is
fastest on the machine is the one to compare with: try several.
"""
import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForSequenceClassification

p = argparse.ArgumentParser()
p.add_argument("model")
p.add_argument("--answers", type=int, default=256)
p.add_argument("--answer-tokens", type=int, default=128)
p.add_argument("--prompt-tokens", type=int, default=16)
p.add_argument("--batch", type=int, default=16)
p.add_argument("--rounds", type=int, default=3)
p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
p.add_argument("--threads", type=int, default=0)
a = p.parse_args()

if a.threads:
    torch.set_num_threads(a.threads)
model = AutoModelForSequenceClassification.from_pretrained(a.model, num_labels=1, dtype=getattr(torch, a.dtype))
model.config.pad_token_id = 0
model.eval()
seconds = []
with torch.inference_mode():
    for round in range(a.rounds + 1):
        torch.manual_seed(round)
        ids = torch.randint(1, model.config.vocab_size, (a.answers, a.prompt_tokens + a.answer_tokens))
        start = time.perf_counter()
        scores = torch.cat([model(input_ids=part).logits[:, 0] for part in ids.split(a.batch)])
        assert scores.shape == (a.answers,)
        seconds.append(time.perf_counter() - start)
round_s = statistics.median(seconds[1:])
print(json.dumps({"peer": "transformers", "dtype": a.dtype, "batch": a.batch, "threads": torch.get_num_threads(),
                  "round_s": round_s, "answers_per_s": a.answers / round_s, "all": seconds}))
