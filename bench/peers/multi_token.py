"""A tiny DeepSeek-V3 with a module that predicts the token after the next, and the losses that transformers gives for a text.

    python multi_token.py OUT          writes a model directory with random weights, data.jsonl and expected.json
    koan pretrain check.toml           with model = "OUT", data = "OUT/data.jsonl", steps = 1: `loss` and `multi_token_loss` of metrics.jsonl

Koan puts the end of text (token 0) before and after a text, and so does this. A tokenizer of up to 97 tokens must be copied into OUT.
"""

import json
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpModel

VOCABULARY, EXPERTS, EXPERT_SIZE, LAYERS = 97, 8, 40, 3


def main() -> None:
    out = sys.argv[1]
    torch.manual_seed(1)
    config = DeepseekV3Config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, moe_intermediate_size=EXPERT_SIZE, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=4, q_lora_rank=28, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8,
        v_head_dim=20, max_position_embeddings=256, first_k_dense_replace=1, n_routed_experts=EXPERTS, num_experts_per_tok=2,
        n_group=2, topk_group=1, num_nextn_predict_layers=1,
    )
    model = DeepseekV3ForCausalLM(config).float().eval()
    modules = MtpModel(model, 1).float().eval()
    for part in (model, modules):
        for name, p in part.named_parameters():
            if "norm" in name:
                p.data += 0.2 * torch.randn_like(p)
            elif p.dim() > 1:
                p.data.normal_(0, 0.15)
        for name, buffer in part.named_buffers():
            if "correction_bias" in name:
                buffer.data.normal_(0, 0.3)
    model.save_pretrained(out)
    tensors = load_file(f"{out}/model.safetensors")
    tensors.update(of_module(modules.layers[0], f"model.layers.{LAYERS}."))
    save_file(tensors, f"{out}/model.safetensors", metadata={"format": "pt"})

    text = torch.randint(3, VOCABULARY, (1, 41))
    end = torch.zeros(1, 1, dtype=torch.long)
    ids = torch.cat([end, text, end], 1)
    n = ids.shape[1]
    with torch.no_grad():
        hidden = model.model(ids[:, :-1]).last_hidden_state
        positions = torch.arange(1, n - 1)[None]
        ahead = modules.forward_layer(0, hidden[:, :-1], positions, None, input_ids=ids[:, 1:-1])
        losses = [
            torch.nn.functional.cross_entropy(model.lm_head(rows)[0], ids[0, k:]).item() for rows, k in [(hidden, 1), (ahead, 2)]
        ]
    with open(f"{out}/data.jsonl", "w", encoding="utf-8") as file:
        file.write(json.dumps({"token_ids": text[0].tolist()}) + "\n")
    with open(f"{out}/expected.json", "w", encoding="utf-8") as file:
        json.dump({"loss": losses[0], "multi_token_loss": losses[1]}, file)
    print(losses)


def of_module(module, prefix: str) -> dict[str, torch.Tensor]:
    """A module's tensors by the names of published checkpoints, each expert apart."""
    found = {f"{prefix}{name}.weight": getattr(module, name).weight for name in ["enorm", "hnorm", "eh_proj"]}
    found[f"{prefix}shared_head.norm.weight"] = module.post_norm.weight
    for name, p in [*module.mtp_block.named_parameters(), *module.mtp_block.named_buffers()]:
        if name == "mlp.experts.gate_up_proj":
            for e in range(EXPERTS):
                found[f"{prefix}mlp.experts.{e}.gate_proj.weight"] = p[e, :EXPERT_SIZE]
                found[f"{prefix}mlp.experts.{e}.up_proj.weight"] = p[e, EXPERT_SIZE:]
        elif name == "mlp.experts.down_proj":
            found.update({f"{prefix}mlp.experts.{e}.down_proj.weight": p[e] for e in range(EXPERTS)})
        else:
            found[prefix + name] = p
    return {name: p.data.contiguous().clone() for name, p in found.items()}


if __name__ == "__main__":
    main()
