//! Test values, and buffers that show who reads or writes beyond their rows.

use super::{Output, assert_same_bits};
use crate::{Backend, Forms, Keep, Layout, Matrix};

/// Elements behind the rows of every activation.
const TAIL: usize = 257;
/// What they are in an output, with no more bits than bf16 holds. In an input they are NaN.
const MARKER: f32 = -12_288.0;

/// A deterministic source of test values: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub(super) struct Numbers(u64);

impl Numbers {
    /// A source of its own for each `seed`.
    pub(super) fn new(seed: usize) -> Self {
        Self(seed as u64)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// `len` integers below `end`.
    pub(super) fn ids(&mut self, len: usize, end: usize) -> Vec<u32> {
        (0..len).map(|_| self.below(end) as u32).collect()
    }

    /// `len` numbers within ±1, of 24 significant bits.
    pub(super) fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.bits() >> 39) as f32 / 2f32.powi(24) - 1.0).collect()
    }

    /// `len` numbers within ±1; `short` ones have the 8 significant bits that bf16 holds.
    pub(super) fn operands(&mut self, len: usize, short: bool) -> Vec<f32> {
        let mask = if short { 0xffff_0000 } else { u32::MAX };
        self.vec(len).into_iter().map(|x| f32::from_bits(x.to_bits() & mask)).collect()
    }
}

/// What an output that must be written holds before: an operation that reads it, or leaves it, is seen.
pub(super) fn unwritten(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

/// A buffer of `values`, nothing beside them.
pub(super) fn exactly<B: Backend>(b: &B, values: &[f32]) -> B::Buf {
    b.upload(values).expect("a little memory")
}

/// All elements of a buffer.
pub(super) fn whole<B: Backend>(b: &B, buf: &B::Buf) -> Vec<f32> {
    let [values] = b.read([(buf, b.len(buf))]);
    values
}

/// An activation to read, followed by NaN.
pub(super) fn input<B: Backend>(b: &B, values: &[f32]) -> B::Buf {
    exactly(b, &[values, &[f32::NAN; TAIL]].concat())
}

/// An activation to write or to add to, followed by markers.
pub(super) fn output<B: Backend>(b: &B, before: &[f32]) -> B::Buf {
    exactly(b, &[before, &[MARKER; TAIL]].concat())
}

/// Activations for products to read, followed by NaN.
pub(super) fn operand<B: Backend>(b: &B, values: &[f32]) -> B::Operand {
    operand_of(b, &[values, &[f32::NAN; TAIL]].concat(), Keep::Operand)
}

/// The same with its values, for what reads them too.
pub(super) fn operand_with_values<B: Backend>(b: &B, values: &[f32]) -> B::Operand {
    operand_of(b, &[values, &[f32::NAN; TAIL]].concat(), Keep::Values)
}

/// An operand to write, or of which to change the values, followed by markers.
pub(super) fn output_operand<B: Backend>(b: &B, before: &[f32], keep: Keep) -> B::Operand {
    operand_of(b, &[before, &[MARKER; TAIL]].concat(), keep)
}

/// `values` in f64.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn operand_of<B: Backend>(b: &B, values: &[f32], keep: Keep) -> B::Operand {
    let mut operand = b.operand(values.len(), keep).expect("a little memory");
    b.write_operand(&mut operand, &wide(values));
    operand
}

/// Rows of `features` as keys, all of them stored; rows of NaN follow.
pub(super) fn keys<B: Backend>(b: &B, values: &[f32], features: usize) -> B::Keys {
    let values = [values, &vec![f32::NAN; features]].concat();
    let rows = values.len() / features;
    let layout =
        Layout { ids: vec![0; rows], cache_rows: (0..rows as u32).rev().collect(), ..Layout::default() };
    let reversed: Vec<f32> = values.rchunks_exact(features).flatten().copied().collect();
    let mut keys = b.keys(values.len()).expect("a little memory");
    b.store_keys(&mut keys, &exactly(b, &reversed), features, &on(b, layout));
    keys
}

/// A layout on the device.
pub(super) fn on<B: Backend>(b: &B, layout: Layout) -> B::Layout {
    b.upload_layout(layout).expect("a little memory")
}

/// A matrix of `shape` `[out_features, in_features]`.
pub(super) fn matrix<B: Backend>(b: &B, values: &[f32], shape: [usize; 2], packed: bool) -> Matrix<B> {
    Matrix::new(b, values, shape, Forms { values: true, packed }).expect("a little memory")
}

/// What an operation left in an [`output`], a row's result in each of its rows.
pub(super) fn by_row<B: Backend>(name: &'static str, b: &B, buf: &B::Buf) -> Output {
    Output { name, by_row: true, rounded: false, values: without_tail(name, whole(b, buf)) }
}

/// What an operation left in an [`output_operand`] that had `len` elements.
pub(super) fn operand_by_row<B: Backend>(name: &'static str, b: &B, x: &B::Operand, len: usize) -> Output {
    let values = without_tail(name, b.read_operand(x, len + TAIL));
    Output { name, by_row: true, rounded: true, values }
}

/// The values that an operation left in an [`output_operand`] that keeps them, once it is seen that products read the same,
/// rounded.
pub(super) fn values_by_row<B: Backend>(name: &'static str, b: &B, x: &B::Operand, len: usize) -> Output {
    let output = by_row(name, b, b.values(x));
    let rounded = operand_of(b, &output.values, Keep::Operand);
    let bits = |x: &B::Operand| b.read_operand(x, len).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(x), bits(&rounded), "{name}: products read other than its values, rounded");
    output
}

/// Asserts that of two [`output_operand`]s that had `len` elements products read the same bits.
#[track_caller]
pub(super) fn assert_same_operand<B: Backend>(
    name: &str,
    b: &B,
    found: &B::Operand,
    wanted: &B::Operand,
    len: usize,
) {
    let [found, wanted] = [found, wanted].map(|x| operand_by_row("operand", b, x, len).values);
    assert_same_bits(name, "what products read where values are not kept", &found, &wanted);
}

fn without_tail(name: &str, mut values: Vec<f32>) -> Vec<f32> {
    let tail = values.split_off(values.len() - TAIL);
    assert!(tail.iter().all(|&x| x == MARKER), "{name} is written beyond its rows: {tail:?}");
    values
}

/// The same, of a gradient that sums over the rows.
pub(super) fn summed<B: Backend>(name: &'static str, b: &B, buf: &B::Buf) -> Output {
    Output { by_row: false, ..by_row(name, b, buf) }
}

/// Rows `chosen` of `x`, which has `n`.
pub(super) fn pick<T: Copy>(x: &[T], n: usize, chosen: &[usize]) -> Vec<T> {
    let features = x.len() / n;
    chosen.iter().flat_map(|row| &x[row * features..][..features]).copied().collect()
}

/// The values without their signs.
pub(super) fn magnitudes(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x.abs()).collect()
}

/// The values in f64.
pub(super) fn exact(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}
