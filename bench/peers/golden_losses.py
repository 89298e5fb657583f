"""Ten training steps of a tiny model in PyTorch + transformers: the losses that Koan's steps must follow.

    python golden_losses.py llama ../../crates/train/tests/golden_losses.json
    python golden_losses.py deepseek_v3 ../../crates/train/tests/golden_losses_deepseek_v3.json

Weights and tokens come from SplitMix64, as in `koan_model::testkit`, so that the file holds numbers only: the config,
the optimizer's constants, and loss and gradient norm (before clipping) of each step, in f64.
"""

import json
import sys

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

LLAMA = {
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
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 31,
    "hidden_size": 24,
    "intermediate_size": 40,
    "moe_intermediate_size": 14,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 10,
    "kv_lora_rank": 9,
    "qk_nope_head_dim": 5,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 3,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.7,
                        "original_max_position_embeddings": 16},
    "max_position_embeddings": 256,
    "num_nextn_predict_layers": 0,
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


ATTENTION = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "deepseek_v3": ["q_a_proj", "q_a_layernorm", "q_b_proj", "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"],
}


def tensors(model) -> list[tuple[str, torch.Tensor]]:
    """The tensors in Koan's order; transformers has the gate and up matrices of all experts in one."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    size = getattr(model.config, "moe_intermediate_size", 0)
    found = [("model.embed_tokens.weight", own["model.embed_tokens.weight"])]
    for i in range(model.config.num_hidden_layers):
        layer = f"model.layers.{i}"
        names = ["input_layernorm.weight", *(f"self_attn.{part}.weight" for part in ATTENTION[model.config.model_type]),
                 "post_attention_layernorm.weight"]
        found += [(name, own[f"{layer}.{name}"]) for name in names]
        if f"{layer}.mlp.gate.weight" in own:
            found += [(name, own[f"{layer}.mlp.gate.{name}"]) for name in ["weight", "e_score_correction_bias"]]
            both = own[f"{layer}.mlp.experts.gate_up_proj"]
            found += [("gate", both[:, :size]), ("up", both[:, size:]), ("down", own[f"{layer}.mlp.experts.down_proj"])]
        mlp = "mlp.shared_experts" if f"{layer}.mlp.gate.weight" in own else "mlp"
        found += [(part, own[f"{layer}.{mlp}.{part}_proj.weight"]) for part in ["gate", "up", "down"]]
    return found + [("norm", own["model.norm.weight"]), ("head", own["lm_head.weight"])]


def main() -> None:
    raw = {"llama": LLAMA, "deepseek_v3": DEEPSEEK_V3}[sys.argv[1]]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**raw), attn_implementation="eager", dtype=torch.float32,
                                             experts_implementation="eager")
    own = tensors(model)
    counted = sum(p.numel() for name, p in own if "correction_bias" not in name)
    assert counted == sum(p.numel() for p in model.parameters())
    start = 0
    for name, p in own:
        mean, spread = (1.0, 0.2) if "norm" in name else (0.0, 0.5)
        values = np.float32(mean) + np.float32(spread) * random(SEED, start, p.numel())
        p.data.copy_(torch.from_numpy(values).reshape(p.shape))
        start += p.numel()
    model.double()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": OPTIM["weight_decay"]}, {"params": rest, "weight_decay": 0.0}],
        lr=OPTIM["lr"], betas=(OPTIM["beta1"], OPTIM["beta2"]), eps=OPTIM["eps"],
    )
    ids = ((random(SEED + 1, 0, SEQUENCES * TOKENS) + np.float32(0.5)) * raw["vocab_size"]).astype(np.int64)
    ids = torch.from_numpy(ids).reshape(SEQUENCES, TOKENS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, raw["vocab_size"]), ids[:, 1:].reshape(-1))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM["grad_clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    golden = {"config": raw, "optim": OPTIM, "seed": SEED, "sequences": SEQUENCES, "tokens": TOKENS,
              "loss": losses, "grad_norm": norms}
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
