//! How rows choose their experts, and their copies.

use koan_backend::{GroupScore, Keep, OutOfMemory, Routing, Scoring, Store};

use crate::{
    cuda::Cuda, device::Address, launch::params, layout::DeviceLayout, memory::Memory, ops::operand::Operand,
};

/// Which experts each row chose.
#[derive(Debug)]
pub struct Routes {
    /// Experts there are, and experts that a row chooses.
    pub(crate) experts: usize,
    pub(crate) per_token: usize,
    /// Rows of the last route_forward.
    pub(crate) rows: usize,
    /// `[rows, per_token]`: the experts of each row, ascending.
    pub(crate) chosen: Memory<u32>,
    /// `[rows, per_token]`: their weights.
    pub(crate) weights: Memory<f32>,
    /// `[rows, per_token]`: the copy, sorted by expert, that each choice became.
    pub(crate) places: Memory<u32>,
    /// `[copies]`: the row of each copy.
    pub(crate) copy_rows: Memory<u32>,
    /// `[copies]`: the weight of each copy.
    pub(crate) copy_weights: Memory<f32>,
    /// `[experts + 1]`: the first copy of each expert, and the number of copies.
    pub(crate) starts: Memory<u32>,
}

impl Routes {
    pub(crate) fn new(cuda: &Cuda, rows: usize, of: Routing) -> Result<Self, OutOfMemory> {
        of.check();
        let copies = rows.saturating_mul(of.per_token);
        Ok(Self {
            experts: of.experts,
            per_token: of.per_token,
            rows: 0,
            chosen: cuda.new_memory(copies)?,
            weights: cuda.new_memory(copies)?,
            places: cuda.new_memory(copies)?,
            copy_rows: cuda.new_memory(copies)?,
            copy_weights: cuda.new_memory(copies)?,
            starts: Memory::zeros(&cuda.device, of.experts + 1)?,
        })
    }

    pub(crate) fn bytes(rows: usize, of: Routing) -> usize {
        rows.saturating_mul(20 * of.per_token).saturating_add(4 * (of.experts + 1))
    }

    pub(crate) fn read(&self) -> (Vec<u32>, Vec<f64>) {
        let n = self.copies();
        (self.chosen.read(n), self.weights.read(n).into_iter().map(f64::from).collect())
    }

    /// Copies of the rows in all.
    pub(crate) fn copies(&self) -> usize {
        self.rows * self.per_token
    }
}

/// Warps, each with a row, of a block of rows.
const WARPS: usize = 4;

params! {
    struct Choose {
        chosen: Address, weights: Address, scores: Address, bias: Address,
        rows: u32, experts: u32, per_token: u32, groups: u32, groups_kept: u32, softmax: u32, by_two: u32,
        normalized: u32, scale: f32, unused: u32,
    }
}

params! {
    struct Sort {
        places: Address, copy_rows: Address, copy_weights: Address, starts: Address, chosen: Address, weights: Address,
        choices: u32, per_token: u32, experts: u32, unused: u32,
    }
}

/// Turns the logits in `scores` into scores, and writes `routes`.
pub(crate) fn forward(
    cuda: &Cuda,
    routes: &mut Routes,
    scores: &mut Memory<f32>,
    bias: Option<&Memory<f32>>,
    of: Routing,
    n: usize,
) {
    let Routing { experts, per_token, groups, groups_kept, normalized, scale, .. } = of;
    assert_eq!((routes.experts, routes.per_token), (experts, per_token), "routes of another routing");
    routes.rows = n;
    let copies = routes.copies();
    let (chosen, weights) = (routes.chosen.first(copies, "routes"), routes.weights.first(copies, "routes"));
    let choose = Choose {
        chosen,
        weights,
        scores: scores.first(n * experts, "scores"),
        bias: bias.map_or(0, |bias| bias.first(experts, "bias")),
        rows: n as u32,
        experts: experts as u32,
        per_token: per_token as u32,
        groups: groups as u32,
        groups_kept: groups_kept as u32,
        softmax: (of.scoring == Scoring::Softmax).into(),
        by_two: (of.group_score == GroupScore::SumOfTopTwo).into(),
        normalized: normalized.into(),
        scale,
        unused: 0,
    };
    let shared = WARPS * (experts + groups) * size_of::<f32>();
    cuda.launch("route_choose", [n.div_ceil(WARPS), 1, 1], 32 * WARPS, shared, choose);
    let sort = Sort {
        places: routes.places.first(copies, "routes"),
        copy_rows: routes.copy_rows.first(copies, "routes"),
        copy_weights: routes.copy_weights.first(copies, "routes"),
        starts: routes.starts.first(experts + 1, "routes"),
        chosen,
        weights,
        choices: u32::try_from(copies).expect("fewer than 2³² copies"),
        per_token: per_token as u32,
        experts: experts as u32,
        unused: 0,
    };
    cuda.launch("route_sort", [experts, 1, 1], 1024, 2 * 32 * size_of::<u32>(), sort);
}

params! {
    struct InTurn {
        chosen: Address, weights: Address, places: Address, copy_rows: Address, copy_weights: Address, starts: Address,
        rows: u32, experts: u32,
    }
}

/// Row `i` of `n` chooses expert `i mod experts`, with weight 1.
pub(crate) fn in_turn(cuda: &Cuda, routes: &mut Routes, n: usize) {
    let experts = routes.experts;
    assert!(
        routes.per_token == 1 && n.is_multiple_of(experts),
        "{n} rows that choose one of {experts} by turns"
    );
    routes.rows = n;
    let params = InTurn {
        chosen: routes.chosen.first(n, "routes"),
        weights: routes.weights.first(n, "routes"),
        places: routes.places.first(n, "routes"),
        copy_rows: routes.copy_rows.first(n, "routes"),
        copy_weights: routes.copy_weights.first(n, "routes"),
        starts: routes.starts.first(experts + 1, "routes"),
        rows: u32::try_from(n).expect("fewer than 2³² copies"),
        experts: experts as u32,
    };
    cuda.for_each("route_in_turn", n.max(experts + 1), params);
}

params! {
    struct RouteShares { shares: Address, sequences: Address, chosen: Address, experts: u32, per_token: u32 }
}

params! {
    struct RouteBackward {
        d_logits: Address, rounded: Address, d_weights: Address, scores: Address, chosen: Address, places: Address,
        shares: Address, sequence_of: Address,
        rows: u32, experts: u32, per_token: u32, sequences: u32, softmax: u32, normalized: u32, scale: f32, balance: f32,
    }
}

params! {
    struct RouteLoad { load: Address, starts: Address, experts: u32, unused: u32 }
}

/// Writes the gradient by the logits, and adds to `load` how many rows chose each expert.
pub(crate) fn backward(
    cuda: &Cuda,
    d_logits: &mut Operand,
    load: Option<&mut Memory<f32>>,
    d_weights: &Memory<f32>,
    scores: &Memory<f32>,
    routes: &Routes,
    of: Routing,
    balance: f32,
    layout: &DeviceLayout,
) {
    let Routing { experts, per_token, normalized, scale, .. } = of;
    let (n, copies, sequences) = (layout.host.len(), routes.copies(), layout.host.sequences.len());
    assert_eq!(copies, n * per_token, "routes of another pass");
    let starts = routes.starts.first(experts + 1, "routes");
    if let Some(load) = load {
        let params =
            RouteLoad { load: load.first(experts, "load"), starts, experts: experts as u32, unused: 0 };
        cuda.for_each("route_load", experts, params);
    }
    let chosen = routes.chosen.first(copies, "routes");
    let shares = (balance != 0.0).then(|| cuda.scratch::<f32>(sequences * experts));
    if let Some(shares) = &shares {
        let params = RouteShares {
            shares: shares.first(sequences * experts, "shares"),
            sequences: layout.sequence_rows(),
            chosen,
            experts: experts as u32,
            per_token: per_token as u32,
        };
        cuda.launch("route_shares", [sequences, 1, 1], 256, experts * size_of::<u32>(), params);
    }
    let params = RouteBackward {
        d_logits: d_logits.values_or_null(n * experts, "d_logits"),
        rounded: d_logits.rounded.first(n * experts, "d_logits"),
        d_weights: d_weights.first(copies, "d_weights"),
        scores: scores.first(n * experts, "scores"),
        chosen,
        places: routes.places.first(copies, "routes"),
        shares: shares.as_ref().map_or(0, |shares| shares.first(sequences * experts, "shares")),
        sequence_of: layout.sequence_of(),
        rows: n as u32,
        experts: experts as u32,
        per_token: per_token as u32,
        sequences: sequences as u32,
        softmax: (of.scoring == Scoring::Softmax).into(),
        normalized: normalized.into(),
        scale,
        balance,
    };
    let shared = WARPS * experts * size_of::<f32>();
    cuda.launch("route_backward", [n.div_ceil(WARPS), 1, 1], 32 * WARPS, shared, params);
}

params! {
    struct Copies { y: Address, x: Address, copy_rows: Address, chunks: u64, features: u32, chunks_of_row: u32 }
}

/// `y[i, :] = x[row of copy i, :]`, as products read them.
pub(crate) fn copies_forward(cuda: &Cuda, y: &mut Operand, x: &Operand, routes: &Routes, features: usize) {
    let (copies, chunks_of_row) = (routes.copies(), features.div_ceil(8));
    let chunks = copies * chunks_of_row;
    let params = Copies {
        y: y.rounded.first(copies * features, "y"),
        x: x.rounded.first(routes.rows * features, "x"),
        copy_rows: routes.copy_rows.first(copies, "routes"),
        chunks: chunks as u64,
        features: features as u32,
        chunks_of_row: chunks_of_row as u32,
    };
    cuda.launch("copies_forward", [chunks.div_ceil(1024), 1, 1], 256, 0, params);
}

params! {
    struct SumCopies { y: Address, x: Address, places: Address, features: u32, per_token: u32, blocks: u32, add: u32 }
}

/// `y[n, :] = Σ x[i, :]` over the copies `i` of row `n`, or `+=`.
pub(crate) fn sum_copies(
    cuda: &Cuda,
    y: &mut Memory<f32>,
    x: &Memory<f32>,
    routes: &Routes,
    features: usize,
    store: Store,
) {
    let (n, copies, blocks) = (routes.rows, routes.copies(), features.div_ceil(256 * 4));
    let params = SumCopies {
        y: y.first(n * features, "y"),
        x: x.first(copies * features, "x"),
        places: routes.places.first(copies, "routes"),
        features: features as u32,
        per_token: routes.per_token as u32,
        blocks: blocks as u32,
        add: (store == Store::Add).into(),
    };
    cuda.launch("sum_copies", [n * blocks, 1, 1], 256, 0, params);
}

params! {
    struct WeightedSwiGlu {
        y: Address, gate: Address, up: Address, weights: Address, features: u32, blocks: u32,
    }
}

/// `y = w · gate · σ(gate) · up`, `w` the weight of each copy.
pub(crate) fn weighted_swiglu_forward(
    cuda: &Cuda,
    y: &mut Operand,
    gate: &Memory<f32>,
    up: &Memory<f32>,
    routes: &Routes,
    features: usize,
) {
    let (copies, blocks) = (routes.copies(), features.div_ceil(256 * 4));
    let n = copies * features;
    let params = WeightedSwiGlu {
        y: y.rounded.first(n, "y"),
        gate: gate.first(n, "gate"),
        up: up.first(n, "up"),
        weights: routes.copy_weights.first(copies, "routes"),
        features: features as u32,
        blocks: blocks as u32,
    };
    cuda.launch("weighted_swiglu_forward", [copies * blocks, 1, 1], 256, 0, params);
}

params! {
    struct WeightedSwiGluBackward {
        d_weights: Address, dy: Address, gate: Address, up: Address,
        rounded_dy: Address, rounded_gate: Address, rounded_up: Address, weights: Address,
        features: u32, keep: u32,
    }
}

/// `gate` and `up` become their gradients, `dy` becomes `y`.
pub(crate) fn weighted_swiglu_backward(
    cuda: &Cuda,
    d_weights: &mut Memory<f32>,
    [dy, gate, up]: [&mut Operand; 3],
    keep: Keep,
    routes: &Routes,
    features: usize,
) {
    let copies = routes.copies();
    let n = copies * features;
    let params = WeightedSwiGluBackward {
        d_weights: d_weights.first(copies, "d_weights"),
        dy: dy.values().first(n, "dy"),
        gate: gate.values().first(n, "gate"),
        up: up.values().first(n, "up"),
        rounded_dy: dy.rounded.first(n, "dy"),
        rounded_gate: gate.rounded.first(n, "gate"),
        rounded_up: up.rounded.first(n, "up"),
        weights: routes.copy_weights.first(copies, "routes"),
        features: features as u32,
        keep: (keep == Keep::Values).into(),
    };
    cuda.launch("weighted_swiglu_backward", [copies, 1, 1], 256, 8 * size_of::<f32>(), params);
}
