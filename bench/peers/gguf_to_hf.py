"""Turn a GGUF model into a float32 Hugging Face folder (weights, tokenizer, chat template).

Usage: python gguf_to_hf.py MODEL.gguf OUT_DIR

transformers dequantises the weights. Its GGUF reader ignores the file's
`tokenizer.ggml.pre` field, so for "smollm" (each digit is its own token) the
digit split is put back here.
"""

import os
import sys

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    gguf_path, out = sys.argv[1:3]
    folder, name = os.path.split(os.path.abspath(gguf_path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # The weights are plain f32 now, but transformers still marks them as quantised
    # and would refuse to save them.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    pre = GGUFReader(gguf_path).fields.get("tokenizer.ggml.pre")
    if pre is not None and pre.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ])
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
