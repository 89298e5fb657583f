#!/bin/sh
# DeepSeekMath's corpus in small: a made-up crawl -> documents -> two rounds of a classifier and the domains it finds -> two models of one
# size, one that reads what was mined and one that reads as much of the crawl at random -> which of them expects held-out mathematics.
#   cargo build --release -p koan --features mine
#   sh recipes/mine-tiny.sh
set -eu
koan=${KOAN:-target/release/koan}
here=$(dirname "$0")
dir=runs/mine-tiny
"$koan" mine example "$dir/crawl" --pages "${PAGES:-6000}"
"$koan" mine run "$here/mine-tiny-pool.toml"
"$koan" mine iterate "$here/mine-tiny-loop.toml" --auto
[ -d "$dir/fresh" ] || "$koan" model init --tiny --out "$dir/fresh"
for name in mined random; do
  "$koan" pretrain "$here/mine-tiny-$name.toml"
done
for name in mined random; do
  echo "$name: held-out loss, nats a byte: $(grep -o '"eval_loss":[0-9.]*' "$dir/$name/metrics.jsonl" | tail -1 | cut -d: -f2)"
done
