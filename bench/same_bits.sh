#!/usr/bin/env bash
# Hashes of what the program computes: run it before and after a change that should change no bit, and compare the lines.
#
#   bench/same_bits.sh KOAN DIR [ISA...]
#
# KOAN is the program, DIR a folder for its work (inputs are made there once: keep it between the two runs). Each line is a
# device, an instruction set, a piece of work, and its SHA-256: the final weights of recipes/zero-tiny-base.toml on a part of
# its text, of a few steps of recipes/zero-tiny.toml, and of fine-tuning; the completions of `koan generate`, whole and
# truncated, and their scores. Instruction sets that the machine lacks are left out. Where lines differ on purpose, a version in
# crates/recipe/src/kind.rs is raised (docs/decisions/0012-when-a-step-is-made-again.md).
set -euo pipefail
koan=$(realpath "$1"); dir=$2; shift 2
isas=(${@:-reference portable avx2 avx512 amx})
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$dir"; cd "$dir"

# The demo's model and data.
if [ ! -e inputs/done ]; then
    rm -rf inputs demo
    "$koan" recipe run demo --quick --until world --run-dir demo > demo.log 2>&1
    mkdir inputs
    cp -r demo/world/model inputs/fresh
    head -n 1200 demo/world/text.jsonl > inputs/text.jsonl
    head -n 64 demo/world/train.jsonl > inputs/train.jsonl
    head -n 8 demo/world/held-out.jsonl > inputs/held-out.jsonl
    sed -E 's/.*"prompt": ?"([^"]*)".*"answer": ?"([^"]*)".*/{"prompt": "\1", "completion": "\2"}/' inputs/train.jsonl \
        > inputs/replies.jsonl
    for family in qwen2 qwen3; do # with biases, and with norms of heads; both with shared keys and a tied embedding
        sed -e "s/\"llama\"/\"$family\"/; s/\"num_key_value_heads\": 3/\"num_key_value_heads\": 1/" \
            -e 's/"tie_word_embeddings": false/"tie_word_embeddings": true/; /architectures/,/]/d' \
            inputs/fresh/config.json > config-$family.json
        "$koan" model init --config config-$family.json --tokenizer inputs/fresh --seed 5 --out inputs/$family >> demo.log
    done
    touch inputs/done
fi
cat > sft.toml <<'TOML'
run_dir = "runs/sft"
model = "runs/base/model"
data = "inputs/replies.jsonl"
seed = 3
epochs = 2
batch_tokens = 64
[optim]
lr = 1e-3
micro_batch_tokens = 256
TOML
hash_of() { sha256sum "$1" | cut -c1-64; }
for isa in "${isas[@]}"; do
    device=cpu; steps=3; problems=16
    export KOAN_ISA=$isa
    if [ "$isa" = reference ]; then device=reference; unset KOAN_ISA; fi
    say() { printf '%-10s %-28s %s\n' "$isa" "$1" "$2"; }
    rm -rf runs; on=(--device "$device")
    if ! "$koan" pretrain "$root/recipes/zero-tiny-base.toml" "${on[@]}" --set run_dir=runs/base --set model=inputs/fresh \
        --set data=inputs/text.jsonl > log 2>&1; then
        grep -q "lacks the instruction set" log && continue
        cat log >&2; exit 1
    fi
    say zero-tiny-base "$(hash_of runs/base/model/model.safetensors)"
    "$koan" rl "$root/recipes/zero-tiny.toml" "${on[@]}" --set run_dir=runs/zero --set model=runs/base/model \
        --set data=inputs/train.jsonl --set eval.data=inputs/held-out.jsonl --set steps=$steps --set rollout.problems=$problems \
        --set eval.every=2 > log 2>&1 || { cat log >&2; exit 1; }
    say zero-tiny "$(hash_of runs/zero/model/model.safetensors)"
    "$koan" rl "$root/recipes/zero-tiny.toml" "${on[@]}" --set run_dir=runs/kl --set model=runs/base/model \
        --set data=inputs/train.jsonl --set eval.data=inputs/held-out.jsonl --set steps=$steps --set rollout.problems=$problems \
        --set algorithm.preset=r1 --set algorithm.kl=0.01 --set optim.moments=bf16 --set optim.recompute=true \
        > log 2>&1 || { cat log >&2; exit 1; }
    say "r1, recomputing, bf16 moments" "$(hash_of runs/kl/model/model.safetensors)"
    "$koan" sft sft.toml "${on[@]}" > log 2>&1 || { cat log >&2; exit 1; }
    say sft "$(hash_of runs/sft/model/model.safetensors)"
    head -n $((problems / 2)) inputs/train.jsonl > prompts.jsonl
    "$koan" generate --model runs/base/model --input prompts.jsonl --raw --n 4 --max-new-tokens 48 "${on[@]}" \
        --out drawn.jsonl > log 2>&1 || { cat log >&2; exit 1; }
    say generate "$(hash_of drawn.jsonl)"
    "$koan" generate --model runs/base/model --input prompts.jsonl --raw --n 4 --max-new-tokens 48 "${on[@]}" \
        --temperature 0.7 --top-p 0.9 --top-k 20 --stop = --out cut.jsonl > log 2>&1 || { cat log >&2; exit 1; }
    say "generate, truncated" "$(hash_of cut.jsonl)"
    "$koan" score --model runs/base/model --input drawn.jsonl "${on[@]}" --out scored.jsonl > log 2>&1 || { cat log >&2; exit 1; }
    say score "$(hash_of scored.jsonl)"
    for family in qwen2 qwen3; do
        "$koan" sft sft.toml "${on[@]}" --set model=inputs/$family --set run_dir=runs/$family > log 2>&1 || { cat log >&2; exit 1; }
        say "sft, $family" "$(hash_of runs/$family/model/model.safetensors)"
    done
    rm -f drawn.jsonl cut.jsonl scored.jsonl
done
