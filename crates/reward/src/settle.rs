//! Terms that models decide: filled in for many completions at once, by whoever has the models.
//!
//! [`Rewards::judge`] decides what verifiers can, on whatever thread; a term that asks a model says "not asked" until
//! [`Rewards::settle`] has asked it.

use crate::models::{Models, ModelsError, Needed};
use crate::reward::{Judgement, Reward, RewardConfig, Rewards, Term};
use crate::standard::Standard;
use crate::verifier::{Context, Judges, Sample};
use crate::{Outcome, RewardError, Verdict};
use koan_data::Problem;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A verifier that asks a model, many completions at once.
pub trait Asks: Send + Sync {
    /// The model in this process that it asks, if it does.
    fn needs(&self) -> Option<Needed>;

    /// Files that its verdicts depend on, each with what it is.
    fn files(&self) -> Vec<(&'static str, PathBuf)> {
        Vec::new()
    }

    /// A verdict on each candidate, in their order. With `learn`, what is to be learned from the first completions of a run (the scale of
    /// scores) is.
    ///
    /// # Errors
    /// If the model can't be asked at all.
    fn settle(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        learn: bool,
    ) -> Result<Vec<Verdict>, ModelsError>;

    /// The scale of its scores that was learned from completions, for a checkpoint.
    fn standard(&self) -> Option<Standard> {
        None
    }

    /// Takes up a scale from a checkpoint.
    fn set_standard(&self, standard: Standard) {
        let _ = standard;
    }
}

/// A completion that a model is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// What the model wrote.
    pub completion: &'a str,
    /// Completions of one group answer the same problem, and may be compared.
    pub group: usize,
}

/// A completion whose judgement may lack what models say.
#[derive(Debug)]
pub struct Unsettled<'a> {
    /// The completion.
    pub sample: Sample<'a>,
    /// Its group: completions of one group answer the same problem.
    pub group: usize,
    /// What verifiers say of it.
    pub judgement: &'a mut Judgement,
}

impl<'a> Unsettled<'a> {
    fn candidate(&self) -> Candidate<'a> {
        let Sample { problem, completion, .. } = self.sample;
        Candidate { problem, completion, group: self.group }
    }
}

/// The models in this process that rewards of `configs` ask, known without building any other reward: for a plan.
///
/// # Errors
/// Options that don't fit.
pub fn needs(configs: &[RewardConfig]) -> Result<Vec<Needed>, RewardError> {
    let asking: Vec<RewardConfig> =
        configs.iter().filter(|config| matches!(&*config.kind, "model" | "judge")).cloned().collect();
    if asking.is_empty() { Ok(Vec::new()) } else { Ok(Rewards::build(&asking, Context::default())?.needs()) }
}

/// The verdict of a term whose model was not asked yet.
pub(crate) fn not_asked() -> Verdict {
    Verdict::without_answer(Outcome::Undecided, "no model was asked")
}

impl Rewards {
    /// Whether a reward asks models: then [`settle`](Self::settle) must follow [`judge`](Self::judge).
    pub fn asks_models(&self) -> bool {
        self.asking().next().is_some()
    }

    /// The models in this process that rewards ask; the same one may be needed by several.
    pub fn needs(&self) -> Vec<Needed> {
        let named = |reward: &Arc<Reward>| {
            let needed = reward.verifier.asks()?.needs()?;
            Some(Needed { reward: reward.name.clone(), ..needed })
        };
        self.all().iter().filter_map(named).collect()
    }

    /// Files that verdicts of models depend on, each with what it is.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        self.asking().filter_map(|reward| reward.verifier.asks()).flat_map(Asks::files).collect()
    }

    /// Fills in what models say of `completions`, and their rewards anew. All completions of a group belong into one call. `learn`: they are those of
    /// a training step, by which scales of scores are set that are not yet.
    ///
    /// # Errors
    /// If a model can't be asked at all; a model that says nothing makes a completion undecided instead.
    pub fn settle(
        &self,
        models: &dyn Models,
        completions: &mut [Unsettled],
        learn: bool,
    ) -> Result<(), ModelsError> {
        for reward in self.asking() {
            let Some(asks) = reward.verifier.asks() else { continue };
            let has_term = |unsettled: &&mut Unsettled| {
                let applies = self.find(unsettled.sample.problem, unsettled.sample.step);
                applies.is_ok_and(|applies| applies.iter().any(|other| Arc::ptr_eq(other, reward)))
            };
            let mut asked: Vec<&mut Unsettled> = completions.iter_mut().filter(has_term).collect();
            if asked.is_empty() {
                continue;
            }
            let candidates: Vec<Candidate> = asked.iter().map(|unsettled| unsettled.candidate()).collect();
            let verdicts = asks.settle(models, &candidates, learn)?;
            for (unsettled, verdict) in asked.iter_mut().zip(verdicts) {
                let terms = &mut unsettled.judgement.terms;
                if let Some(term) = terms.iter_mut().find(|term| term.name == reward.name) {
                    *term = reward.term(verdict);
                }
            }
        }
        for unsettled in completions {
            self.finish(unsettled);
        }
        Ok(())
    }

    /// After the models have answered: terms of form that depend on the first term, and the sum.
    fn finish(&self, unsettled: &mut Unsettled) {
        let Unsettled { sample, judgement, .. } = unsettled;
        let Ok(applies) = self.find(sample.problem, sample.step) else { return };
        if applies.first().is_some_and(|first| first.verifier.asks().is_some()) {
            let answered = Some(judgement.outcome());
            for (reward, term) in applies.iter().zip(&mut judgement.terms) {
                if reward.kind.judges == Judges::Form {
                    *term = reward.judge(&Sample { answered, ..*sample });
                }
            }
        }
        judgement.reward = Term::sum(&judgement.terms);
    }

    /// The scales of scores that were learned from completions, by the names of their rewards.
    pub fn standards(&self) -> BTreeMap<String, Standard> {
        let of = |reward: &Arc<Reward>| Some((reward.name.clone(), reward.verifier.asks()?.standard()?));
        self.asking().filter_map(of).collect()
    }

    /// Takes up scales from a checkpoint.
    pub fn set_standards(&self, standards: &BTreeMap<String, Standard>) {
        for reward in self.asking() {
            if let (Some(asks), Some(&standard)) = (reward.verifier.asks(), standards.get(&reward.name)) {
                asks.set_standard(standard);
            }
        }
    }

    fn asking(&self) -> impl Iterator<Item = &Arc<Reward>> {
        self.all().iter().filter(|reward| reward.verifier.asks().is_some())
    }
}
