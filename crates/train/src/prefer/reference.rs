//! What the reference policy says of every reply: computed once, before the first step, and kept with the run. So no second
//! model is in memory while the policy learns, and a resumed run need not compute it again.

use std::path::Path;

use koan_backend::Backend;
use koan_files::{read_bounded, replace, sha256};
use koan_model::checkpoint::{self, Place};
use serde::{Deserialize, Serialize};

use super::{
    PreferError,
    examples::Example,
    learner::{Compared, LogProbSums},
};
use crate::{
    TrainError,
    comm::{Ranks, Shards},
    gradient::Passes,
};

/// How many examples are scored between two words about progress.
const AT_ONCE: usize = 64;
/// The largest file that is read, bytes: some ten million examples.
const MAX_BYTES: u64 = 1 << 30;

/// The file: what was scored, and Σ log π_ref of both replies of each example.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// SHA-256 of the examples' tokens.
    examples_sha256: String,
    log_probs: Vec<[f64; 2]>,
}

/// The sums of log-probabilities of both replies of each of `examples` under the model at `place`, in passes of up to `rows`
/// tokens, on these ranks: those in `file`, if an earlier part of the run left them there, else computed and written to it. `on` hears how
/// many examples are done.
///
/// # Errors
/// If the model can't be loaded or gives numbers that are not finite, the device refuses memory, or the file can't be
/// written.
pub(super) fn log_probs<B: Backend>(
    b: &B,
    place: &Place,
    examples: &[Example],
    rows: usize,
    file: &Path,
    ranks: &Ranks,
    mut on: impl FnMut(usize),
) -> Result<Vec<[f64; 2]>, TrainError> {
    let examples_sha256 = hash(examples);
    let kept = if ranks.is_first() { read(file) } else { None };
    let kept = kept.filter(|kept| kept.examples_sha256 == examples_sha256);
    if ranks.broadcast(Some(kept.is_some()))? {
        return Ok(ranks.broadcast(kept.map(|kept| kept.log_probs))?);
    }
    let positions = examples.iter().map(Example::positions).max().unwrap_or(1);
    let model = checkpoint::load_for_inference(b, place, Some(positions))?;
    // A shard a rank: what is said of a reply does not depend on who says it.
    let passes = Passes::to_measure(b, model.config(), rows)?;
    let mut passes = passes.sharded(b, model.config(), Shards::new(ranks.ranks(), ranks.clone())?)?;
    let mut log_probs = Vec::with_capacity(examples.len());
    for some in examples.chunks(AT_ONCE) {
        let alone = |example| Compared { example, reference: [0.0; 2] };
        let alone: Vec<Compared> = some.iter().map(alone).collect();
        log_probs.extend(LogProbSums::under(b, &model, &mut passes, &alone)?);
        on(log_probs.len());
    }
    if log_probs.iter().flatten().any(|x| !x.is_finite()) {
        return Err(PreferError::ReferenceNotFinite { path: place.model().into() }.into());
    }
    let kept = Kept { examples_sha256, log_probs };
    if ranks.is_first() {
        let text = serde_json::to_string(&kept).expect("plain numbers") + "\n";
        replace(file, text.as_bytes())?;
    }
    Ok(kept.log_probs)
}

/// What `file` holds; nothing if it is not there or not whole: it is then computed anew.
fn read(file: &Path) -> Option<Kept> {
    serde_json::from_slice(&read_bounded(file, MAX_BYTES).ok()??).ok()
}

fn hash(examples: &[Example]) -> String {
    let mut bytes = Vec::new();
    for tokens in examples.iter().flat_map(|example| [&example.prompt].into_iter().chain(&example.replies)) {
        bytes.extend((tokens.len() as u64).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|id| id.to_le_bytes()));
    }
    sha256(bytes)
}
