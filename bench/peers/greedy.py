"""Write reference greedy completions with transformers in float32.

Usage: python greedy.py MODEL_DIR OUT.jsonl [--prompts FILE] [--new-tokens 64] [--threads 2]

Each prompt goes through the model's chat template with the generation prompt.
One output line for each prompt:
  {"id", "prompt_ids", "token_ids", "margins"}
token_ids ends with the end token if the model gave one; margins[i] is the gap
between the best and the second-best logit where token_ids[i] was chosen.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("out")
    parser.add_argument("--prompts", default=Path(__file__).with_name("greedy_prompts.jsonl"))
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    model = AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=torch.float32).eval()
    with open(args.prompts, encoding="utf-8") as prompts, open(args.out, "w", encoding="utf-8") as out:
        for line in prompts:
            problem = json.loads(line)
            inputs = tokenizer.apply_chat_template(
                problem["messages"], add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            result = model.generate(
                **inputs,
                do_sample=False,
                repetition_penalty=1.0,
                max_new_tokens=args.new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
            prompt_ids = inputs["input_ids"][0].tolist()
            top2 = torch.cat(result.logits).topk(2).values
            record = {
                "id": problem["id"],
                "prompt_ids": prompt_ids,
                "token_ids": result.sequences[0, len(prompt_ids):].tolist(),
                "margins": [round(m, 5) for m in (top2[:, 0] - top2[:, 1]).tolist()],
            }
            out.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
