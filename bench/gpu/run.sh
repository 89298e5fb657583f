#!/usr/bin/env bash
# All that an NVIDIA GPU can say of Koan, in 8 minutes: is it right, is it the same twice, how fast is it, and how fast is PyTorch.
#
#     bench/gpu/run.sh OUT [cuda:N]
#
# It builds nothing. It needs the program and two examples, built before on any machine of the kind:
#
#     cargo build --release -p koan && cargo build --release -p koan-cuda --examples
#
# and a compiler of the kernels (`koan doctor` says which it finds), or cubins beside the program (examples/compile.rs). KOAN and
# EXAMPLES name them elsewhere; PYTHON is a Python with PyTorch, if there is one; STEPS names the steps to make, all by default:
# "doctor conformance hash sanitizer peak products train generate rl peers".
#
# OUT/result.json has every figure, OUT/table.txt what people read, OUT/NAME.log what each step said.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:?usage: bench/gpu/run.sh OUT [cuda:N]}
device=${2:-cuda:0}
koan=${KOAN:-$root/target/release/koan}
examples=${EXAMPLES:-$root/target/release/examples}
python=${PYTHON:-python3}
configs=$root/bench/configs
# Seconds in all; what is left of them bounds each step.
limit=${LIMIT:-480}
steps=${STEPS:-doctor conformance hash sanitizer peak products train generate rl peers}
mkdir -p "$out"
results=$out/results.jsonl
table=$out/table.txt
: >"$results"
: >"$table"

left() { echo $((limit - SECONDS)); }
say() { echo "$*" | tee -a "$table"; }
wants() { case " $steps " in *" $1 "*) [ "$(left)" -gt 5 ] || { say "$1: no time left"; false; } ;; *) false ;; esac; }
# One number of the last line of JSON in a file.
number() { grep '^{' "$2" | tail -1 | grep -o "\"$1\":[-0-9.e+]*" | tail -1 | cut -d: -f2; }
# Runs a command for at most so many seconds, what it says in OUT/NAME.log; its last line of JSON is a result.
try() { # NAME SECONDS COMMAND...
    local name=$1 most=$2 code start=$SECONDS
    shift 2
    [ "$(left)" -lt "$most" ] && most=$(left)
    [ "$most" -gt 0 ] || { say "$name: no time left"; return 1; }
    timeout -k 5 "$most" "$@" >"$out/$name.log" 2>"$out/$name.err"
    code=$?
    local json
    json=$(grep '^{' "$out/$name.log" | tail -1)
    printf '{"step":"%s","exit":%s,"seconds":%s,"result":%s}\n' "$name" $code $((SECONDS - start)) "${json:-null}" >>"$results"
    [ $code = 0 ] || say "$name: failed ($code): $(grep -v '^ *$' "$out/$name.err" | tail -2 | tr '\n' ' ' | cut -c1-300)"
    return $code
}
rate() { awk -v x="${1:-0}" -v by="$2" 'BEGIN { printf "%.0f", x / by }'; }

say "koan on $device, $(date -u +%FT%TZ)"

if wants doctor; then
    try doctor 60 "$koan" doctor && tee -a "$table" <"$out/doctor.log"
fi

if wants conformance; then
    try conformance 150 "$examples/conformance" "$device"
    cat "$out/conformance.log" | tee -a "$table"
fi

# Two runs of the same settings: one hash, and no gap between what was sampled and what was trained on.
if wants hash; then
    rm -rf "$out/hash" && mkdir -p "$out/hash"
    (
        cd "$out/hash" || exit 1
        "$koan" model init --tiny --out model
        # A reward that random text gets about half of the time, so that there is something to learn: no letter e.
        for i in $(seq 32); do
            printf '{"prompt":"Text %s","answer":"{\\"func_name\\":\\"verify_letter_frequency\\",\\"letter\\":\\"e\\",\\"N\\":0}"}\n' "$i"
        done >train.jsonl
    ) >"$out/hash.log" 2>&1
    cat >"$out/hash/run.toml" <<'TOML'
run_dir = "one"
model = "model"
data = "train.jsonl"
steps = 4
[rollout]
problems = 8
group_size = 8
max_new_tokens = 128
[[reward]]
kind = "ifeval"
[optim]
lr = 1e-3
TOML
    for run in one two; do
        (cd "$out/hash" && timeout 60 "$koan" rl run.toml --set run_dir=$run --device "$device") \
            >>"$out/hash.log" 2>&1 || say "hash: run $run failed: $(tail -1 "$out/hash.log")"
    done
    one=$(grep -o 'checkpoint sha256 [0-9a-f]*' "$out/hash.log" | sed -n 1p)
    two=$(grep -o 'checkpoint sha256 [0-9a-f]*' "$out/hash.log" | sed -n 2p)
    (cd "$out/hash" && KOAN_CUDA_GRAPHS=1 timeout 60 "$koan" rl run.toml --set run_dir=graphs --device "$device") \
        >"$out/hash-graphs.log" 2>&1 || say "hash: the run by graphs failed: $(tail -1 "$out/hash-graphs.log")"
    graphs=$(grep -o 'checkpoint sha256 [0-9a-f]*' "$out/hash-graphs.log" | sed -n 1p)
    say "a third run, by graphs of kernels: $([ -n "$one" ] && [ "$one" = "$graphs" ] && echo the same hash || echo ANOTHER HASH)"
    gap=$(grep -ho '"log_prob_gap":[-0-9.e+]*' "$out"/hash/*/metrics.jsonl | cut -d: -f2 | sort -g | tail -1)
    same=$([ -n "$one" ] && [ "$one" = "$two" ] && echo true || echo false)
    printf '{"step":"hash","exit":0,"result":{"same":%s,"hash":"%s","log_prob_gap":%s}}\n' \
        "$same" "${one##* }" "${gap:-null}" >>"$results"
    say "two runs, one hash: $same (${one##* }); largest log-prob gap ${gap:-unknown}"
fi

if wants sanitizer; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck; do
            try "sanitizer-$tool" 40 compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
                "$examples/conformance" "$device" wrappers rms_norm swiglu &&
                say "compute-sanitizer $tool: $(grep -h 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out/sanitizer-$tool.log" | tail -1)"
        done
    else
        say "compute-sanitizer is not here"
    fi
fi

if wants peak; then
    try peak 40 "$koan" bench peak --device "$device" --json &&
        say "copy $(rate "$(number copy_bytes_per_s "$out/peak.log")" 1e9) GB/s; product of 8192: $(rate "$(number flops "$out/peak.log")" 1e12) TFLOP/s"
fi

if wants products; then
    say "products, TFLOP/s                 forward   to the input   to the weight"
    for shape in 16384:3072x1024 8192:1536x576 4096:151936x1024 64:3072x1024 256:3072x1024; do
        rows=${shape%%:*} matrix=${shape##*:}
        name=product-$rows-$matrix
        if try "$name" 40 "$koan" bench product --shape "$matrix" --rows "$rows" --repeats 10 --device "$device" --json; then
            speeds=$(grep -o '"gflops":[0-9.e+]*' "$out/$name.log" | head -3 | cut -d: -f2 | awk '{ printf "%14.1f", $1 / 1000 }')
            say "$(printf '  %6s x %-14s %s' "$rows" "$matrix" "$speeds")"
        fi
    done
fi

if wants train; then
    for shape in smollm2-135m:16:1024 smollm2-135m:64:109 qwen3-0.6b:8:1024; do
        IFS=: read -r model sequences tokens <<<"$shape"
        name=train-$model-$sequences-$tokens
        try "$name" 60 "$koan" bench train --config "$configs/$model.json" --sequences "$sequences" --tokens "$tokens" \
            --micro-batch-tokens 8192 --steps 5 --device "$device" --json &&
            say "train $model $sequences x $tokens: $(rate "$(number tokens_per_s "$out/$name.log")" 1) tokens/s"
    done
fi

if wants generate; then
    for shape in smollm2-135m:64:45:0 smollm2-135m:64:45:1 smollm2-135m:512:45:0 smollm2-135m:512:45:1 qwen3-0.6b:64:128:0 \
        qwen3-0.6b:64:128:1 qwen3-0.6b:512:128:0; do
        IFS=: read -r model sequences prompt graphs <<<"$shape"
        name=generate-$model-$sequences
        [ "$graphs" = 1 ] && name=$name-graphs
        try "$name" 60 env KOAN_CUDA_GRAPHS="$graphs" "$koan" bench generate --config "$configs/$model.json" --sequences "$sequences" \
            --prompt-tokens "$prompt" --new-tokens 64 --device "$device" --json &&
            say "$name, $prompt + 64: $(rate "$(number tokens_per_s "$out/$name.log")" 1) tokens/s"
    done
fi

if wants rl; then
    for shape in 8:8:64 16:16:256; do
        IFS=: read -r problems group tokens <<<"$shape"
        name=rl-smollm2-135m-$problems-$group-$tokens
        try "$name" 60 "$koan" bench rl --config "$configs/smollm2-135m.json" --problems "$problems" --group "$group" \
            --prompt-tokens 45 --new-tokens "$tokens" --micro-batch-tokens 8192 --device "$device" --json &&
            say "rl step smollm2-135m $problems x $group x $tokens: $(number step_s "$out/$name.log") s (generate $(number generate_s "$out/$name.log"), train $(number train_s "$out/$name.log"), gap $(number log_prob_gap "$out/$name.log"))"
    done
fi

# PyTorch beside it, where it is installed.
if wants peers; then
    if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
        try peers 120 "$python" "$here/peers.py" --device "$device" && tee -a "$table" <"$out/peers.err"
    else
        say "PyTorch is not here: nothing beside"
    fi
fi

{
    printf '{"bench":"gpu","device":"%s","date":"%s","steps":[' "$device" "$(date -u +%FT%TZ)"
    paste -sd, "$results"
    printf ']}\n'
} >"$out/result.json"
say "$SECONDS s in all; $out/result.json"
