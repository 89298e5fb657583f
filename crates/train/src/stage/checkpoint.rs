//! A checkpoint: a Hugging Face directory with all that the next step depends on. It is whole or not there.

use std::{collections::BTreeMap, fs, path::Path};

use koan_backend::{Backend, MomentType};
use koan_files::{FilesError, checksums, read_text, write_directory, write_synced};
use koan_model::{
    Config, Model, TensorInfo, Transformer, checkpoint,
    safetensors_file::{self, Entry, Reader},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::StageError;
use crate::optim::{Balance, Optimizer, stored};

/// The file of counters.
pub(super) const STATE: &str = "trainer.json";
/// The file of moments.
const MOMENTS: &str = "optimizer.safetensors";

/// What a checkpoint knows besides weights and moments: all that the next step depends on, and nothing that differs
/// between two runs of the same config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState<S> {
    /// Which stage's run it is.
    pub stage: String,
    /// Steps made.
    pub step: u64,
    /// Updates of the optimizer.
    pub updates: u64,
    /// Tokens learned from, or sampled.
    pub tokens: u64,
    /// Keys every random stream, whose counters are step, problem, sample and token; also keys the order of the data.
    pub seed: u64,
    /// SHA-256 of the settings that shape the run.
    pub config_sha256: String,
    /// SHA-256 of each input that shapes the run, by its role.
    pub inputs_sha256: BTreeMap<String, String>,
    /// What this stage alone counts.
    pub own: S,
}

/// What a stage trains, as a checkpoint keeps it.
#[derive(Clone, Copy)]
pub struct Trained<'a, B: Backend> {
    /// The model.
    pub model: &'a Model<B>,
    /// The reference policy, if it is another than the model that the run started from.
    pub reference: Option<&'a Model<B>>,
    /// The model's optimizer.
    pub optimizer: &'a Optimizer<B>,
}

/// Writes a checkpoint in `dir`, with the tokenizer and config of model directory `like`. Returns its digest: one SHA-256
/// over all its files.
pub(super) fn save<B: Backend>(
    b: &B,
    dir: &Path,
    trained: Trained<B>,
    state: &impl Serialize,
    like: &Path,
) -> Result<String, StageError> {
    let Trained { model, reference, optimizer } = trained;
    save_with(dir, state, |part| {
        checkpoint::save_into(b, model, part, like)?;
        if let Some(reference) = reference {
            let part = part.join("reference");
            fs::create_dir(&part).map_err(FilesError::io("create", &part))?;
            checkpoint::save_into(b, reference, &part, like)?;
        }
        let is_trained = || model.weights.tensors().map(|param| param.info().trained);
        let of = |(moment, trained): (_, bool)| trained.then_some(moment);
        let [m, v] =
            [&optimizer.m, &optimizer.v].map(|of_all| of_all.tensors().zip(is_trained()).filter_map(of));
        let moments: Vec<&B::Moment> = m.chain(v).collect();
        let read = |i: usize| Ok::<_, StageError>(b.read_moment(moments[i]));
        let (entries, stored) = (moment_entries(model.config()), stored(optimizer.moments));
        safetensors_file::write_as(stored, &part.join(MOMENTS), &entries, read)?;
        Ok(())
    })
}

/// Writes a checkpoint in `dir` of `state`, and of what `contents` puts beside it. Returns its digest.
pub(super) fn save_with(
    dir: &Path,
    state: &impl Serialize,
    contents: impl FnOnce(&Path) -> Result<(), StageError>,
) -> Result<String, StageError> {
    let mut digest = String::new();
    write_directory(dir, |part| {
        contents(part)?;
        let state = serde_json::to_string_pretty(state).expect("a state of plain values") + "\n";
        write_synced(&part.join(STATE), state.as_bytes())?;
        digest = checksums::write(part, STATE)?;
        Ok::<_, StageError>(())
    })?;
    Ok(digest)
}

/// The state of checkpoint `dir`, if it is one of the same stage, config and inputs as `fresh`.
pub(super) fn load_state<S: DeserializeOwned>(
    dir: &Path,
    fresh: &TrainerState<S>,
) -> Result<TrainerState<S>, StageError> {
    let path = dir.join(STATE);
    let text = read_text(&path).map_err(FilesError::io("read", &path))?;
    let other =
        |e| format!("{e}; it was written by another version of Koan, by another stage, or changed by hand");
    let state: TrainerState<S> =
        serde_json::from_str(&text).map_err(|e| FilesError::Damaged { path, what: other(e) })?;
    let roles = fresh.inputs_sha256.keys().chain(state.inputs_sha256.keys());
    // An input that the checkpoint does not know was not looked at when it was written.
    let changed = |role: &&String| {
        let (was, is) = (state.inputs_sha256.get(*role), fresh.inputs_sha256.get(*role));
        was.is_some() && was != is
    };
    let differs = |role: &str| StageError::InputsChanged { path: dir.into(), role: role.into() };
    match roles.clone().find(changed) {
        Some(role) => Err(differs(role)),
        None if state.stage != fresh.stage => Err(differs("stage")),
        None if state.config_sha256 != fresh.config_sha256 => Err(differs("config")),
        None => Ok(state),
    }
}

/// Reads a checkpoint's moments, which were kept as `moments` says, after `updates` updates.
///
/// # Errors
/// If they can't be read, or are of another model.
pub(super) fn load_optimizer<B: Backend>(
    b: &B,
    dir: &Path,
    config: &Config,
    moments: MomentType,
    updates: u64,
) -> Result<Optimizer<B>, StageError> {
    let reader = Reader::open(&dir.join(MOMENTS))?;
    let mut entries = moment_entries(config).into_iter();
    let mut moment = || {
        Transformer::try_build(config, |info| {
            if !info.trained {
                return Ok(b.zero_moment(0, moments)?);
            }
            let entry = entries.next().expect("two moments a tensor");
            Ok::<_, StageError>(b.upload_moment(&reader.read(&entry)?, moments)?)
        })
    };
    Ok(Optimizer { m: moment()?, v: moment()?, moments, updates, balance: Balance::default() })
}

/// The moments as tensors of a file: all first moments, then all second ones, of what is trained.
fn moment_entries(config: &Config) -> Vec<Entry> {
    let named = |moment: &str| {
        let entry = |info: TensorInfo| Entry { name: format!("{moment}.{}", info.name), shape: info.shape };
        config.tensors().into_iter().filter(|info| info.trained).map(entry).collect::<Vec<_>>()
    };
    [named("m"), named("v")].concat()
}
