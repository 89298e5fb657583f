//! Two ways to compute DeepSeek's latent attention (docs/decisions/0013): keys and values expanded for each head, or the latent
//! itself as the only key head, with queries and outputs taken to its features ("absorbed"). Times of attention alone, in turns.
//!
//! ```sh
//! cargo run --release -p koan-cpu --example latent_attention
//! ```

use std::time::Instant;

use koan_backend::{Attention, Backend, Heads, Keep, Layout, Sequence};
use koan_cpu::Cpu;

/// A model's latent attention.
struct Sizes {
    name: &'static str,
    heads: usize,
    nope: usize,
    rope: usize,
    value: usize,
    rank: usize,
}

const MODELS: [Sizes; 2] = [
    Sizes { name: "DeepSeek-V2-Lite", heads: 16, nope: 128, rope: 64, value: 128, rank: 512 },
    Sizes { name: "small", heads: 4, nope: 64, rope: 32, value: 64, rank: 64 },
];

/// Turns, of which the median is taken.
const TURNS: usize = 7;

impl Sizes {
    fn expanded(&self) -> Heads {
        let (query, dim) = (self.heads, self.nope + self.rope);
        Heads { query, key_value: query, dim, value_dim: self.value }
    }

    fn absorbed(&self) -> Heads {
        Heads { query: self.heads, key_value: 1, dim: self.rank + self.rope, value_dim: self.rank }
    }
}

/// Seconds of attention over `sequences` of `rows` rows each, the last of `context` keys: forward, and forward and backward.
fn seconds(b: &Cpu, heads: Heads, [sequences, rows, context]: [usize; 3]) -> [f64; 2] {
    let (n, keys) = (sequences * rows, sequences * context);
    let sequences = (0..sequences)
        .map(|i| Sequence {
            rows: i * rows..(i + 1) * rows,
            prefix: vec![],
            keys: i * context..(i + 1) * context,
        })
        .collect();
    let layout = b.upload_layout(Layout { ids: vec![0; n], sequences, ..Layout::default() }).expect("memory");
    let buf = |len| b.zeros(len).expect("memory");
    let (q, k, v) = (
        buf(n * heads.query_features()),
        b.keys(keys * heads.key_features()),
        b.keys(keys * heads.value_features()),
    );
    let (k, v) = (k.expect("memory"), v.expect("memory"));
    let mut out = b.operand(n * heads.output_features(), Keep::Values).expect("memory");
    let mut log_sum_exp = buf(n * heads.query);
    // The latent is key and value.
    let v = (heads.key_value > 1).then_some(&v);
    let inputs = Attention { q: &q, k: &k, v, layout: &layout, heads, scale: 0.1 };
    let start = Instant::now();
    b.attention_forward(&mut out, &mut log_sum_exp, inputs);
    let forward = start.elapsed().as_secs_f64();
    if rows == 1 {
        return [forward, forward];
    }
    let (mut dq, mut dk, mut dv) =
        (buf(q.len()), buf(keys * heads.key_features()), buf(keys * heads.value_features()));
    let dout = buf(n * heads.output_features());
    b.attention_backward([&mut dq, &mut dk, &mut dv], &dout, inputs, &out, &log_sum_exp);
    [forward, start.elapsed().as_secs_f64()]
}

fn main() -> std::io::Result<()> {
    let b = Cpu::best(None).map_err(std::io::Error::other)?;
    for model in &MODELS {
        let [expanded, absorbed] = [model.expanded(), model.absorbed()];
        let bytes = |elements: usize| 4 * elements;
        println!(
            "{}: a layer's cache takes {} bytes per token expanded, {} as the latent",
            model.name,
            bytes(expanded.key_features() + expanded.value_features()),
            bytes(model.rank + model.rope)
        );
        for (what, size) in [
            ("one row of 8 sequences of 256 keys", [8, 1, 256]),
            ("one row of 8 sequences of 2048 keys", [8, 1, 2048]),
            ("one row of a sequence of 16384 keys", [1, 1, 16384]),
            ("4 sequences of 512 rows, forward and backward", [4, 512, 512]),
        ] {
            let mut ratios = Vec::new();
            let mut times = Vec::new();
            for _ in 0..TURNS {
                let [[_, a], [_, c]] = [expanded, absorbed].map(|heads| seconds(&b, heads, size));
                ratios.push(c / a);
                times.push(a);
            }
            ratios.sort_by(f64::total_cmp);
            times.sort_by(f64::total_cmp);
            let middle = TURNS / 2;
            println!(
                "  {what}: expanded {:.2} ms, absorbed {:.2} times that",
                1e3 * times[middle],
                ratios[middle]
            );
        }
    }
    Ok(())
}
