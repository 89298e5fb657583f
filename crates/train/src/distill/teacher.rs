//! The teacher: a model that is read, and not trained.

use koan_backend::{Backend, OutOfMemory};
use koan_model::{
    Activations, Config, Head, HeadKind, Model, Purpose, Residency,
    checkpoint::{self, CheckpointError, Weights, check_positions},
};
use koan_text::Tokenizer;

use super::{DistillConfig, DistillError};
use crate::{
    TrainError,
    gradient::{Group, MicroBatch, cut},
    stage::Input,
};

/// What of a teacher is known before its weights are read.
pub(super) struct Teacher {
    pub(super) config: Config,
}

impl Teacher {
    /// Opens the teacher of `config`, if it has the tokens of the student's `tokenizer`, its weights are there, and it reads
    /// texts of `positions` tokens.
    ///
    /// # Errors
    /// What is not so.
    pub(super) fn open(
        config: &DistillConfig,
        tokenizer: &Tokenizer,
        positions: usize,
    ) -> Result<Self, TrainError> {
        let dir = &config.teacher;
        let sizes = Config::load(dir).map_err(CheckpointError::from)?;
        let of_teacher = Tokenizer::load_for(dir, sizes.vocab_size)?;
        if let Some(what) = tokenizer.difference(&of_teacher) {
            let (teacher, model) = (dir.clone(), config.stage.model.clone());
            return Err(DistillError::OtherTokenizer { teacher, model, what }.into());
        }
        if sizes.head != HeadKind::Language {
            return Err(CheckpointError::RewardModel { path: dir.clone() }.into());
        }
        check_positions(dir, &sizes, positions)?;
        Weights::open(dir, &sizes)?;
        Ok(Self { config: sizes })
    }

    /// What lineage.json and checkpoints know it by.
    ///
    /// # Errors
    /// If its weights can't be read.
    pub(super) fn inputs(config: &DistillConfig) -> Result<Input, TrainError> {
        Ok(Input::model("teacher", &config.teacher)?)
    }

    /// Bytes of its weights.
    pub(super) fn bytes<B: Backend>(&self, b: &B) -> usize {
        self.config.model_bytes(b, Residency::Inference)
    }

    /// Bytes of what it scores tokens in, in passes of `rows` tokens.
    pub(super) fn scoring_bytes<B: Backend>(&self, b: &B, rows: usize) -> usize {
        Purpose::Inference.bytes(b, &self.config, rows) + Head::bytes(b, &self.config, rows)
    }

    /// Puts its weights on `b`.
    ///
    /// # Errors
    /// If they can't be read, or the device refuses the memory.
    pub(super) fn load<B: Backend>(
        b: &B,
        config: &DistillConfig,
        positions: usize,
    ) -> Result<Model<B>, TrainError> {
        Ok(checkpoint::load_for_inference(b, &config.teacher, Some(positions))?)
    }
}

/// The log-probabilities of the tokens of all completions of `groups` under `teacher` at `temperature`, completion after
/// completion, in passes of up to `rows` tokens.
///
/// # Errors
/// If the device refuses memory.
///
/// # Panics
/// If a completion with its prompt exceeds the rows.
pub(super) fn log_probs<B: Backend>(
    b: &B,
    teacher: &Model<B>,
    groups: &[Group],
    rows: usize,
    temperature: f32,
) -> Result<Vec<Vec<f64>>, OutOfMemory> {
    let config = teacher.config();
    let mut activations = Activations::new(b, config, rows, Purpose::Inference)?;
    let mut head = Head::new(b, config, rows)?;
    let mut lengths = groups.iter().flat_map(|group| &group.completions).map(|(_, ids)| ids.len());
    let mut all = Vec::new();
    for MicroBatch { layout, completions } in cut(groups, rows, 1) {
        let layout = teacher.upload(b, layout)?;
        teacher.forward(b, &layout, &mut activations, None);
        let [log_probs, _] = teacher.log_probs(b, &activations, &layout, temperature, &mut head);
        let mut rest = &log_probs[..];
        for length in lengths.by_ref().take(completions.len()) {
            let (own, after) = rest.split_at(length);
            all.push(own.to_vec());
            rest = after;
        }
    }
    Ok(all)
}
