//! Attention.

use std::f64::consts::LOG2_E;

use koan_backend::{Attention, Heads};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::operand::Operand,
    sequences::{BLOCK, Tile},
};

/// Features of keys that lie in shared memory together, at most.
const CHUNK: usize = 128;

params! {
    /// The forward.
    struct Forward {
        out: Address,
        values: Address,
        log_sum_exp: Address,
        q: Address,
        k: Address,
        v: Address,
        tiles: Address,
        key_rows: Address,
        partial: Address,
        partial_sums: Address,
        query: u32,
        key_value: u32,
        dim: u32,
        value_dim: u32,
        subtiles: u32,
        value_chunks: u32,
        blocks: u32,
        scale: f32,
        value_stride: u32,
        unused: u32,
    }
}

/// Kernels for heads of a size.
#[derive(Clone, Copy)]
struct Kernels {
    /// Tiles of 64 rows.
    wide: &'static str,
    /// Tiles of up to 16 rows.
    decode: &'static str,
    /// Features of values that they take.
    values: usize,
    /// Parts of blocks of keys that wide tiles have in shared memory.
    parts: usize,
}

impl Kernels {
    fn of(heads: Heads) -> Self {
        let (wide, decode, values, parts) = match (heads.dim, heads.value_dim) {
            (64, 64) => ("attention_64", "attention_decode_64", 64, 4),
            (128, 128) => ("attention_128", "attention_decode_128", 128, 4),
            _ => ("attention_any", "attention_decode_any", 128, 3),
        };
        Self { wide, decode, values, parts }
    }
}

/// How a decoding pass is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Warps that take the blocks of keys of a tile by turns.
    warps: usize,
    /// Blocks of threads for each tile.
    splits: usize,
    shared: usize,
}

impl Cut {
    /// For `tiles` tiles of up to `rows` rows, each for all key heads, that see up to `keys` blocks of keys. By how it is cut no bit
    /// changes.
    fn of(cuda: &Cuda, heads: Heads, values: usize, tiles: usize, rows: usize, keys: usize) -> Self {
        let available = cuda.device.shared();
        let resident = |shared: usize| cuda.device.multiprocessors() as usize * (available / (shared + 1024));
        let cuts = [1, 2, 4].map(|warps| {
            let shared = decode_bytes(heads, values, rows, warps);
            Self { warps, splits: 1, shared }
        });
        // Time in rounds of keys: a block begins and ends in about two.
        let time = |cut: &Self| {
            let waves = (tiles as f64 / resident(cut.shared) as f64).max(1.0);
            waves * (2 + keys.div_ceil(cut.warps)) as f64
        };
        let possible = cuts.into_iter().filter(|cut| cut.shared <= available);
        let mut cut = possible
            .min_by(|a, b| time(a).total_cmp(&time(b)))
            .unwrap_or_else(|| panic!("heads of {} features do not fit a GPU's shared memory", heads.dim));
        // Rounds that others may take as well, if there is room for them.
        let rounds = keys.div_ceil(cut.warps);
        cut.splits = (resident(cut.shared) / tiles).min(rounds / 2).max(1);
        cut
    }
}

/// Key rows that the sequences of a layout read.
fn key_rows(layout: &DeviceLayout) -> usize {
    layout.host.key_rows()
}

/// Where the values lie, and from a key head's to those of the next: of their own, or the first features of keys.
fn values_of(inputs: Attention<'_, Cuda>) -> (Address, usize) {
    let Attention { k, v, layout, heads, .. } = inputs;
    let rows = key_rows(layout);
    if let Some(v) = v {
        return (v.first(rows * heads.value_features(), "v"), heads.value_dim);
    }
    assert!(heads.value_dim <= heads.dim, "{heads:?}: values are the first features of keys");
    (k.first(rows * heads.key_features(), "k"), heads.dim)
}

fn check(heads: Heads, scale: f64) {
    let whole = heads.key_value > 0 && heads.query.is_multiple_of(heads.key_value);
    assert!(whole && heads.dim > 0 && heads.value_dim > 0 && scale > 0.0, "{heads:?}, scale {scale}");
}

/// Bytes of a row of features in shared memory.
fn row_bytes(features: usize) -> usize {
    features * 2 + 16
}

/// Bytes of a part of a block of keys in shared memory: of their features, or of the values.
fn part_bytes(heads: Heads, values: usize) -> usize {
    let value_width = heads.value_dim.next_multiple_of(16).min(values);
    BLOCK * row_bytes(heads.dim.next_multiple_of(16).min(CHUNK).max(value_width))
}

/// Shared memory of a block that takes `rows` rows of a prefill.
fn forward_bytes(heads: Heads, kernels: Kernels, rows: usize) -> usize {
    let queries = rows * row_bytes(heads.dim.next_multiple_of(16));
    queries + 2 * BLOCK * size_of::<u32>() + kernels.parts * part_bytes(heads, kernels.values)
}

/// Shared memory of a block that decodes up to `rows` rows.
fn decode_bytes(heads: Heads, values: usize, rows: usize, warps: usize) -> usize {
    let queries = 16 * row_bytes(heads.dim.next_multiple_of(16));
    let totals = rows * (heads.value_dim.next_multiple_of(16).min(values) + 8) * 4 + 2 * 16 * 8;
    queries + totals + warps * 3 * part_bytes(heads, values)
}

/// Writes `out` and `log_sum_exp`.
pub(crate) fn forward(
    cuda: &Cuda,
    out: &mut Operand,
    log_sum_exp: &mut Memory<f32>,
    inputs: Attention<'_, Cuda>,
) {
    let Attention { q, k, layout, heads, scale, .. } = inputs;
    check(heads, scale);
    let (v, value_stride) = values_of(inputs);
    let (n, rows) = (layout.host.len(), key_rows(layout));
    let sequences = layout.sequences();
    let kernels = Kernels::of(heads);
    let value_chunks = heads.value_dim.div_ceil(kernels.values);
    let params = Forward {
        out: out.rounded.first(n * heads.output_features(), "out"),
        values: out.values_or_null(n * heads.output_features(), "out"),
        log_sum_exp: log_sum_exp.first(n * heads.query, "log_sum_exp"),
        q: q.first(n * heads.query_features(), "q"),
        k: k.first(rows * heads.key_features(), "k"),
        v,
        tiles: layout.tiles(0),
        key_rows: sequences.key_rows.at(0),
        partial: 0,
        partial_sums: 0,
        query: heads.query as u32,
        key_value: heads.key_value as u32,
        dim: heads.dim as u32,
        value_dim: heads.value_dim as u32,
        subtiles: 1,
        value_chunks: value_chunks as u32,
        blocks: 0,
        scale: (scale * LOG2_E) as f32,
        value_stride: value_stride as u32,
        unused: 0,
    };
    // Tiles of few rows come last. Which kernel a row goes to does not change its bits.
    let rows_of = |tile: &Tile| tile.rows as usize * heads.group();
    let (wide, few) = sequences.tiles.split_at(sequences.tiles.partition_point(|tile| rows_of(tile) > 16));
    let blocks = |tiles: &[Tile]| tiles.len() * heads.key_value * value_chunks;
    if let Some(largest) = wide.first() {
        let bytes = |warps| forward_bytes(heads, kernels, warps * 16);
        let available = cuda.device.shared();
        let (kernel, warps) =
            if bytes(4) <= available { (kernels.wide, 4) } else { ("attention_any_narrow", 1) };
        assert!(
            bytes(warps) <= available,
            "heads of {} features do not fit a GPU's shared memory",
            heads.dim
        );
        let subtiles = rows_of(largest).div_ceil(warps * 16);
        let params = Forward { subtiles: subtiles as u32, ..params };
        cuda.launch(kernel, [blocks(wide) * subtiles, 1, 1], warps * 32, bytes(warps), params);
    }
    if let Some(largest) = few.first() {
        let keys = few.iter().map(|tile| tile.context().div_ceil(BLOCK)).max().unwrap_or(0);
        let cut = Cut::of(cuda, heads, kernels.values, blocks(few), rows_of(largest), keys);
        let params = Forward { tiles: layout.tiles(wide.len()), blocks: keys as u32, ..params };
        let grid = [blocks(few), cut.splits, 1];
        if cut.splits == 1 {
            cuda.launch(kernels.decode, grid, cut.warps * 32, cut.shared, params);
            return;
        }
        let partial = cuda.scratch::<f32>(n * heads.output_features() * keys);
        let sums = cuda.scratch::<f32>(n * heads.query * keys * 2);
        let params = Forward { partial: partial.at(0), partial_sums: sums.at(0), ..params };
        cuda.launch(kernels.decode, grid, cut.warps * 32, cut.shared, params);
        cuda.launch("attention_merge", [few.len() * heads.query, 1, 1], 128, 0, params);
    }
}

params! {
    /// Rounds what the backward reads of each row and head.
    struct Rounded {
        queries: Address,
        d_outputs: Address,
        q: Address,
        dout: Address,
        out: Address,
        log_sum_exp: Address,
        n: u64,
        dim: u32,
        value_dim: u32,
    }
}

params! {
    /// The backward.
    struct Backward {
        dq: Address,
        dk: Address,
        dv: Address,
        queries: Address,
        d_outputs: Address,
        k: Address,
        v: Address,
        tiles: Address,
        sequences: Address,
        key_blocks: Address,
        key_sums: Address,
        key_rows: Address,
        dk_slots: Address,
        dv_slots: Address,
        query: u32,
        key_value: u32,
        dim: u32,
        value_dim: u32,
        subtiles: u32,
        chunks: u32,
        scale: f32,
        scale_2: f32,
        value_stride: u32,
        unused: u32,
    }
}

/// How the backward runs: its kernels for queries and for keys, their warps, of 16 rows or keys each, and shared memory, and
/// features of an output that a block takes.
struct Plan {
    queries: &'static str,
    keys: &'static str,
    warps: usize,
    shared: usize,
    chunk: usize,
    /// Whether a block sums the gradients of both keys and values.
    both: bool,
}

impl Plan {
    fn of(heads: Heads, available: usize) -> Self {
        let (padded, value_padded) = (heads.dim.next_multiple_of(16), heads.value_dim.next_multiple_of(16));
        let part = BLOCK * row_bytes(padded.max(value_padded).min(CHUNK));
        let bytes = |warps: usize, parts: usize| {
            let rows = warps * 16 * (row_bytes(padded) + row_bytes(value_padded));
            rows + 2 * BLOCK * size_of::<u32>() + parts * part
        };
        let plan = |[queries, keys]: [_; 2], warps, both| {
            let (parts, chunk) = if both { (4, heads.dim) } else { (3, CHUNK) };
            Self { queries, keys, warps, shared: bytes(warps, parts), chunk, both }
        };
        let fast = match (heads.dim, heads.value_dim) {
            (64, 64) => Some(["attention_backward_queries_64", "attention_backward_keys_64"]),
            (128, 128) => Some(["attention_backward_queries_128", "attention_backward_keys_128"]),
            _ => None,
        };
        let any = ["attention_backward_queries_any", "attention_backward_keys_any"];
        let narrow = ["attention_backward_queries_narrow", "attention_backward_keys_narrow"];
        let plans = fast.map(|kernels| plan(kernels, 4, true)).into_iter();
        let mut plans = plans.chain([plan(any, 4, false), plan(narrow, 1, false)]);
        plans.find(|plan| plan.shared <= available).unwrap_or_else(|| {
            panic!("heads of {} and {} features do not fit a GPU's shared memory", heads.dim, heads.value_dim)
        })
    }
}

/// Writes `dq`, and `dk` and `dv` of the keys that sequences have.
pub(crate) fn backward(
    cuda: &Cuda,
    [dq, dk, dv]: [&mut Memory<f32>; 3],
    dout: &Memory<f32>,
    inputs: Attention<'_, Cuda>,
    out: &Memory<f32>,
    log_sum_exp: &Memory<f32>,
) {
    let Attention { q, k, layout, heads, scale, .. } = inputs;
    check(heads, scale);
    let (v, value_stride) = values_of(inputs);
    let (n, rows) = (layout.host.len(), key_rows(layout));
    let sequences = layout.sequences();
    let key_blocks = sequences.key_blocks(cuda, &layout.host.sequences);
    let plan = Plan::of(heads, cuda.device.shared());
    let queries = n * heads.query;
    let rounded_queries = cuda.scratch::<Bf16>(queries * (heads.dim.next_multiple_of(16) + 8));
    let d_outputs = cuda.scratch::<Bf16>(queries * heads.value_dim.next_multiple_of(16));
    let rounded = Rounded {
        queries: rounded_queries.at(0),
        d_outputs: d_outputs.at(0),
        q: q.first(n * heads.query_features(), "q"),
        dout: dout.first(n * heads.output_features(), "dout"),
        out: out.first(n * heads.output_features(), "out"),
        log_sum_exp: log_sum_exp.first(queries, "log_sum_exp"),
        n: queries as u64,
        dim: heads.dim as u32,
        value_dim: heads.value_dim as u32,
    };
    cuda.launch("attention_rounded", [queries.div_ceil(8), 1, 1], 256, 0, rounded);

    let slots = key_blocks.slots * BLOCK;
    let dk_slots = cuda.scratch::<f32>(slots * heads.key_features());
    let dv_slots = cuda.scratch::<f32>(slots * heads.value_features());
    let (chunks, value_chunks) = (heads.dim.div_ceil(plan.chunk), heads.value_dim.div_ceil(plan.chunk));
    let params = Backward {
        dq: dq.first(n * heads.query_features(), "dq"),
        dk: dk.first(rows * heads.key_features(), "dk"),
        dv: dv.first(rows * heads.value_features(), "dv"),
        queries: rounded_queries.at(0),
        d_outputs: d_outputs.at(0),
        k: k.first(rows * heads.key_features(), "k"),
        v,
        tiles: layout.tiles(0),
        sequences: key_blocks.sequences(),
        key_blocks: key_blocks.blocks(),
        key_sums: key_blocks.sums(),
        key_rows: sequences.key_rows.at(0),
        dk_slots: dk_slots.at(0),
        dv_slots: dv_slots.at(0),
        query: heads.query as u32,
        key_value: heads.key_value as u32,
        dim: heads.dim as u32,
        value_dim: heads.value_dim as u32,
        subtiles: 1,
        chunks: chunks as u32,
        scale: scale as f32,
        scale_2: (scale * LOG2_E) as f32,
        value_stride: value_stride as u32,
        unused: 0,
    };
    let at_once = plan.warps * 16;
    let subtiles = BLOCK / at_once;
    let key_chunks = if plan.both { 1 } else { value_chunks + chunks };
    let of_keys = Backward { subtiles: subtiles as u32, chunks: key_chunks as u32, ..params };
    let blocks = key_blocks.count * heads.key_value * subtiles * key_chunks;
    cuda.launch(plan.keys, [blocks, 1, 1], plan.warps * 32, plan.shared, of_keys);
    cuda.launch("attention_backward_sums", [key_blocks.summed * BLOCK, 1, 1], 128, 0, params);

    let largest = sequences.tiles.first().map_or(0, |tile| tile.rows as usize * heads.group());
    let subtiles = largest.div_ceil(at_once);
    let of_queries = Backward { subtiles: subtiles as u32, ..params };
    let blocks = sequences.tiles.len() * heads.key_value * subtiles * chunks;
    cuda.launch(plan.queries, [blocks, 1, 1], plan.warps * 32, plan.shared, of_queries);
}
