//! A text's signature, by fast similarity sketching (Dahlgaard, Knudsen and Thorup, arXiv:1704.04370).
//!
//! As of k min-hashes, each of the k values of two texts is equal with a probability that is the Jaccard similarity of their
//! shingles. But a shingle is not hashed k times: in a round each shingle is hashed once, to a value and to the place that it
//! competes for, and rounds go on until every place is taken. A text of many shingles needs one or two rounds.

use koan_data::decontaminate::{Word, words};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Near;

/// Min-hashes of which a sketch keeps four bits.
pub(super) const SKETCHED: usize = 128;

/// What documents are compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The hash of each band.
    pub bands: Vec<u64>,
    /// Four bits of each of the first 128 min-hashes.
    pub sketch: [u8; SKETCHED / 2],
}

/// Memory that [`Signer::sign`] works in.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<Word>,
    shingles: Vec<u64>,
    hashes: Vec<u64>,
    bytes: Vec<u8>,
}

/// Signs texts; threads may share it.
#[derive(Clone, Debug)]
pub struct Signer {
    near: Near,
}

impl Signer {
    /// With these settings, which were checked.
    pub fn new(near: &Near) -> Self {
        Self { near: *near }
    }

    /// The signature of a text, of less than 4 GiB; none if it has no words. A text of fewer words than a shingle is one shingle.
    pub fn sign(&self, text: &str, scratch: &mut Scratch) -> Option<Signature> {
        let Scratch { words: found, shingles, hashes, bytes } = scratch;
        found.clear();
        words(text, found);
        if found.is_empty() {
            return None;
        }
        shingles.clear();
        shingles.extend(found.windows(self.near.ngram.min(found.len())).map(shingle));
        self.sketch(shingles, hashes);
        let mut bands = Vec::with_capacity(self.near.bands);
        for (band, rows) in hashes.chunks_exact(self.near.rows).enumerate() {
            bytes.clear();
            bytes.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
            bands.push(xxh3_64_with_seed(bytes, band as u64));
        }
        let mut sketch = [0; SKETCHED / 2];
        for (i, hash) in hashes.iter().take(SKETCHED).enumerate() {
            // The low bits say nothing of the value's size, by which places compete.
            sketch[i / 2] |= ((hash & 15) as u8) << (i % 2 * 4);
        }
        Some(Signature { bands, sketch })
    }

    /// The min-hash of each place.
    fn sketch(&self, shingles: &[u64], hashes: &mut Vec<u64>) {
        let places = self.near.bands * self.near.rows;
        hashes.clear();
        hashes.resize(places, u64::MAX);
        let mut free = places;
        // The first rounds throw shingles at any place; the last are for one place each, so that none stays free.
        for round in 0..2 * places as u64 {
            let seed = mix(
                self.near.seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                0xa076_1d64_78bd_642f,
            );
            for &shingle in shingles {
                let hash = mix(shingle ^ seed, 0xe703_7ed1_a0b4_28db);
                let place = match round.checked_sub(places as u64) {
                    None => (((hash >> 32) * places as u64) >> 32) as usize,
                    Some(place) => place as usize,
                };
                // Twelve bits of the round, then of the hash: earlier rounds win.
                let value = round << 52 | hash.wrapping_mul(0x8ebc_6af0_9c88_c6e3) >> 12;
                let kept = &mut hashes[place];
                free -= usize::from(*kept == u64::MAX);
                *kept = value.min(*kept);
            }
            if free == 0 {
                break;
            }
        }
    }
}

/// How alike two sketches are: an estimate of the Jaccard similarity, from min-hashes of which there are `places`.
pub fn similarity(a: &[u8; SKETCHED / 2], b: &[u8; SKETCHED / 2], places: usize) -> f64 {
    let places = places.min(SKETCHED);
    let same = |(a, b): (&u8, &u8)| {
        u32::from((a ^ b).trailing_zeros() >= 4) + u32::from((a ^ b).leading_zeros() >= 4)
    };
    let equal: u32 = a.iter().zip(b).map(same).sum::<u32>() - (SKETCHED - places) as u32;
    // Of those that differ a sixteenth agrees in four bits.
    let share = f64::from(equal) / places as f64;
    ((share - 1.0 / 16.0) / (15.0 / 16.0)).max(0.0)
}

fn shingle(words: &[Word]) -> u64 {
    words.iter().fold(words.len() as u64, |hash, word| mix(hash ^ word.hash, 0x589c_c90e_46d5_5c97))
}

/// The halves of a product of 128 bits, one upon the other.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
