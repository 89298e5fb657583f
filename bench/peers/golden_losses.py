"""Ten training steps of a tiny Llama in PyTorch + transformers: the losses that Koan's steps must follow.

    python golden_losses.py ../../crates/train/tests/golden_losses.json

Weights and tokens come from SplitMix64, as in `koan_model::testkit`, so that the file holds numbers only: the config,
the optimizer's constants, and loss and gradient norm (before clipping) of each step, in f64.
"""

import json
import sys

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 31,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000.0,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "eos_token_id": 0,
}
OPTIM = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "grad_clip": 1.0}
SEED, SEQUENCES, TOKENS, STEPS = 5, 6, 17, 10


def random(seed: int, start: int, n: int) -> np.ndarray:
    """Numbers `start`, `start + 1`, … of SplitMix64's stream `seed`, in [-1/2, 1/2)."""
    with np.errstate(over="ignore"):
        z = (np.uint64(seed << 32) + np.arange(start, start + n, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)


def main() -> None:
    config = LlamaConfig(**CONFIG, attn_implementation="eager")
    model = LlamaForCausalLM(config)
    layer = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    names = ["model.embed_tokens", *(f"model.layers.{i}.{part}" for i in range(2) for part in layer), "model.norm", "lm_head"]
    parameters = dict(model.named_parameters())
    assert {f"{name}.weight" for name in names} == parameters.keys()
    start = 0
    for name in names:
        p = parameters[f"{name}.weight"]
        mean, spread = (1.0, 0.2) if p.dim() == 1 else (0.0, 0.5)
        values = np.float32(mean) + np.float32(spread) * random(SEED, start, p.numel())
        p.data = torch.from_numpy(values).reshape(p.shape)
        start += p.numel()
    model.double()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": OPTIM["weight_decay"]}, {"params": rest, "weight_decay": 0.0}],
        lr=OPTIM["lr"], betas=(OPTIM["beta1"], OPTIM["beta2"]), eps=OPTIM["eps"],
    )
    ids = ((random(SEED + 1, 0, SEQUENCES * TOKENS) + np.float32(0.5)) * CONFIG["vocab_size"]).astype(np.int64)
    ids = torch.from_numpy(ids).reshape(SEQUENCES, TOKENS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, CONFIG["vocab_size"]), ids[:, 1:].reshape(-1))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM["grad_clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    golden = {"config": CONFIG, "optim": OPTIM, "seed": SEED, "sequences": SEQUENCES, "tokens": TOKENS,
              "loss": losses, "grad_norm": norms}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
