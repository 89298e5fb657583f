//! Exchange by URL: of the documents of one URL the first in the input stays.

use super::{
    Ids, Stage,
    manifest::{Manifest, Tally, joined},
    pages::{URL_BYTES, URLS},
    parted::{Part, Parted},
    run::{Listener, Run},
};
use crate::{MineError, sort::Sorter};

/// Bytes of a document's number.
pub(super) const ID_BYTES: usize = 8;

/// Makes the parts that are not made.
pub(super) fn make(run: &Run, units: &[usize], listener: Listener<'_>) -> Result<(), MineError> {
    let pages = run.manifests(Stage::Pages)?;
    let inputs = joined(pages.iter().map(|manifest| &manifest.outputs[URLS].digest));
    let memory = (run.config.exchange.memory_mib << 20) / run.threads().min(units.len()).max(1);
    run.make_units(
        Stage::Urls,
        units,
        |_| inputs.clone(),
        listener,
        |part| {
            let scratch = run.scratch(Stage::Urls, part)?;
            let mut sorter = Sorter::<URL_BYTES>::new(scratch.path(), memory);
            for manifest in &pages {
                for key in Part::<URL_BYTES>::open(&run.folder, &manifest.outputs[URLS], part)? {
                    sorter.push(key?)?;
                }
            }
            let mut removed = Parted::create(&run.folder, &Run::name(Stage::Urls, part, "removed"), 1)?;
            let mut last = None;
            for key in sorter.finish()? {
                let key = key?;
                let (url, id) = key.split_at(16);
                // Sorted, the first of an URL is the first in the input.
                if last.as_ref().is_some_and(|last: &[u8; URL_BYTES]| &last[..16] == url) {
                    removed.push(0, id)?;
                }
                last = Some(key);
            }
            Ok((vec![removed.finish()?], Tally::default()))
        },
    )
}

/// The documents whose URL was captured before.
pub(super) fn removed(run: &Run) -> Result<Ids, MineError> {
    let manifests: Vec<Manifest> = run.manifests(Stage::Urls)?;
    let parts: Result<Vec<_>, MineError> = manifests
        .iter()
        .map(|manifest| Part::<ID_BYTES>::open(&run.folder, &manifest.outputs[0], 0))
        .collect();
    Ids::collect(parts?.into_iter().flatten().map(|id| id.map(u64::from_be_bytes)))
}
