//! Exchange by band: pairs of near-duplicates, and the clusters that they join; of each the first document in the input stays.

use super::{
    Id, Ids, Shard, Stage,
    manifest::{Manifest, Tally, joined},
    pages::BANDS,
    parted::{Part, Parted},
    run::{Listener, Run},
    urls::{self, ID_BYTES},
};
use crate::{
    MineError,
    near::{PAIR_BYTES, Pair, RECORD_BYTES, Record, clusters, pairs},
};

/// Makes the parts of pairs that are not made.
pub(super) fn make_pairs(run: &Run, units: &[usize], listener: Listener<'_>) -> Result<(), MineError> {
    let pages = run.manifests(Stage::Pages)?;
    let captured = urls::removed(run)?;
    let urls = run.manifests(Stage::Urls)?;
    let inputs = joined(
        pages
            .iter()
            .map(|manifest| manifest.outputs[BANDS].digest.clone())
            .chain(urls.iter().map(Manifest::digest)),
    );
    let memory = (run.config.exchange.memory_mib << 20) / run.threads().min(units.len()).max(1);
    run.make_units(
        Stage::Near,
        units,
        |_| inputs.clone(),
        listener,
        |part| {
            let scratch = run.scratch(Stage::Near, part)?;
            let parts: Result<Vec<_>, MineError> = pages
                .iter()
                .map(|pages| Part::<RECORD_BYTES>::open(&run.folder, &pages.outputs[BANDS], part))
                .collect();
            let records =
                parts?.into_iter().flatten().map(|record| record.map(Record)).filter(|record| {
                    record.as_ref().map_or(true, |record| !captured.has(Id::of(record.id())))
                });
            let mut found = Parted::create(&run.folder, &Run::name(Stage::Near, part, "pairs"), 1)?;
            pairs(records, &run.config.near, scratch.path(), memory, |pair| found.push(0, &pair.0))?;
            Ok((vec![found.finish()?], Tally::default()))
        },
    )
}

/// Makes the clusters, if they are not made.
pub(super) fn make_clusters(run: &Run) -> Result<(), MineError> {
    let near = run.manifests(Stage::Near)?;
    let inputs = joined(near.iter().map(Manifest::digest));
    let memory = run.config.exchange.memory_mib << 20;
    run.make_units(
        Stage::Clusters,
        &[Shard::WHOLE.index],
        |_| inputs.clone(),
        &|_| {},
        |unit| {
            let scratch = run.scratch(Stage::Clusters, unit)?;
            let read = || {
                let parts: Result<Vec<_>, MineError> = near
                    .iter()
                    .map(|near| Part::<PAIR_BYTES>::open(&run.folder, &near.outputs[0], 0))
                    .collect();
                Ok(parts?.into_iter().flatten().map(|pair| pair.map(Pair)))
            };
            let found = clusters(read, scratch.path(), memory)?;
            let mut removed = Parted::create(&run.folder, &Run::name(Stage::Clusters, unit, "removed"), 1)?;
            for (id, _) in &found.documents {
                removed.push(0, &id.to_be_bytes())?;
            }
            let mut tally = Tally::default();
            tally.add("near/clusters", found.clusters as u64);
            Ok((vec![removed.finish()?], tally))
        },
    )
}

/// The near-duplicates that go.
pub(super) fn removed(run: &Run) -> Result<Ids, MineError> {
    let manifests = run.manifests(Stage::Clusters)?;
    let part = Part::<ID_BYTES>::open(&run.folder, &manifests[0].outputs[0], 0)?;
    Ids::collect(part.map(|id| id.map(u64::from_be_bytes)))
}
