//! Models side by side on one device, each with a generator: those that are adapters of one base share its weights.

use koan_backend::Backend;
use koan_generate::{Drafts, Generator, Limits, MemoryPlan};
use koan_model::{LogitRows, Model, Residency, checkpoint, checkpoint::check_positions};

use crate::{
    Codec, Engine, InferError, PromptScores, check_drafts,
    plan::{self, SHARE_OF_MEMORY},
};

/// Tokens by which a sequence's pages may exceed it.
const SLACK: usize = 32;

/// How models that are loaded together are to be used.
#[derive(Clone, Copy, Debug)]
pub struct Together {
    /// Tokens of the longest sequence, prompt and completion.
    pub context: usize,
    /// Sequences of each model that run at once.
    pub sequences: usize,
    /// Where drafts come from.
    pub drafts: Drafts,
    /// Bytes for keys, values and passes of all models; `None`: most of the memory that weights leave.
    pub memory: Option<usize>,
}

/// A model that can be asked for anything: completions, logits of them, scores of prompts.
pub struct Whole<'b, B: Backend> {
    /// The model, and what samples its completions.
    pub engine: Engine<'b, B>,
    /// What scores prompts.
    pub scores: PromptScores<B>,
}

impl Together {
    /// Loads the models of `codecs`. The memory of all of them is planned before weights are read.
    ///
    /// # Errors
    /// A context that a model does not reach, drafts that one can't make, no room, or weights that are refused.
    pub fn load<B: Backend>(self, b: &B, codecs: Vec<Codec>) -> Result<Vec<Whole<'_, B>>, InferError> {
        let plans = self.plan(b, &codecs)?;
        // Adapters first: what lies under them is frozen, so that others can share it.
        let mut order: Vec<usize> = (0..codecs.len()).collect();
        order.sort_by_key(|&i| codecs[i].place().adapter().is_none());
        let mut loaded: Vec<Option<Model<B>>> = codecs.iter().map(|_| None).collect();
        for i in order {
            let codec = &codecs[i];
            let of_base = |(other, loaded): (&Codec, _)| if shares(other, codec) { loaded } else { None };
            let base = codecs.iter().zip(loaded.iter().map(Option::as_ref)).find_map(of_base);
            let model = match (base, self.drafts_of(codec, &codecs)) {
                (Some(base), _) => {
                    let config = codec.config().clone().without_modules();
                    checkpoint::load_on_same_base(b, base, codec.place(), config, 0)?
                }
                (None, Drafts::MultiToken) => codec.load_with_modules(b, self.context)?,
                (None, Drafts::Off | Drafts::Text) => codec.load(b, Some(self.context))?,
            };
            loaded[i] = Some(model);
        }
        let models = codecs.into_iter().zip(loaded.into_iter().flatten()).zip(plans);
        let whole = |((codec, model), plan): ((Codec, Model<B>), MemoryPlan)| {
            let mut generator = Generator::planned(b, codec.config(), plan)?;
            generator.show_logits(b, codec.config())?;
            generator.keep_keys(true);
            let scores = PromptScores::new(b, codec.config(), self.context)?;
            Ok(Whole { engine: Engine { b, codec, model, generator }, scores })
        };
        models.map(whole).collect()
    }

    /// Where drafts of the model of `codec` come from: one whose weights are shared has no modules.
    fn drafts_of(self, codec: &Codec, all: &[Codec]) -> Drafts {
        match self.drafts {
            Drafts::MultiToken if all.iter().any(|other| shares(other, codec)) => Drafts::Text,
            drafts => drafts,
        }
    }

    /// What each model's generator is planned for.
    fn plan<B: Backend>(self, b: &B, codecs: &[Codec]) -> Result<Vec<MemoryPlan>, InferError> {
        let (mut weights, mut besides) = (0, 0);
        for (i, codec) in codecs.iter().enumerate() {
            check_positions(codec.dir(), codec.config(), self.context)?;
            check_drafts(codec.dir(), codec.config(), self.drafts_of(codec, codecs))?;
            if !codecs[..i].iter().any(|other| shares(other, codec)) {
                weights += codec.config().model_bytes(b, Residency::Inference);
            }
            besides +=
                PromptScores::bytes(b, codec.config(), self.context) + LogitRows::bytes(b, codec.config());
        }
        let left = b.free_memory().map(|free| (free as usize).saturating_sub(weights));
        let budget = self.memory.or(left.map(|left| (left as f64 * SHARE_OF_MEMORY) as usize));
        let each = budget.map(|budget| budget.saturating_sub(besides) / codecs.len().max(1));
        let plan = |codec: &Codec| {
            let half = self.context.div_ceil(2) + SLACK;
            let drafts = self.drafts_of(codec, codecs);
            let limits = Limits { sequences: self.sequences, prompt_tokens: half, new_tokens: half, drafts };
            let plan = match each {
                Some(bytes) => MemoryPlan::shared(b, limits, codec.config(), bytes)?,
                None => MemoryPlan::whole(b, limits),
            };
            let taken = plan.bytes(b, codec.config()).saturating_add(besides);
            plan::check(b, codec.config(), taken, "what it works in")?;
            Ok(plan)
        };
        codecs.iter().map(plan).collect()
    }
}

/// Whether two models are of one base, of which at least one is an adapter's, so that its weights are there once.
fn shares(a: &Codec, b: &Codec) -> bool {
    let (a, b) = (a.place(), b.place());
    a != b
        && a.model() == b.model()
        && a.precision() == b.precision()
        && a.cache() == b.cache()
        && (a.adapter().is_some() || b.adapter().is_some())
}
