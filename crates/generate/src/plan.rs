//! How much memory generation takes, and how many sequences run at once in what there is.

use koan_backend::Backend;
use koan_model::{Config, Drafting, Head, KvCache, Purpose};

use crate::{
    Drafts, drafts,
    pages::{PAGE, pages_of},
};

/// Rows whose logits are held at once where sampling is truncated.
const LOGIT_ROWS: usize = 64;

const GIB: f64 = (1u64 << 30) as f64;

/// What a generator is to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that run at once.
    pub sequences: usize,
    /// Longest prompt, tokens.
    pub prompt_tokens: usize,
    /// Longest completion, tokens.
    pub new_tokens: usize,
    /// Where drafts come from.
    pub drafts: Drafts,
}

impl Limits {
    /// Pages of the longest sequence: its prompt less the last token; that, and each token sampled but the last.
    fn pages_of_one(&self) -> usize {
        pages_of(self.prompt_tokens.saturating_sub(1)) + pages_of(self.new_tokens)
    }

    /// Bytes that a generator holds on `b` which runs them all at their longest.
    pub fn bytes<B: Backend>(&self, b: &B, config: &Config) -> usize {
        MemoryPlan::whole(b, *self).bytes(b, config)
    }
}

/// There is no room for even one sequence.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "a sequence of {prompt_tokens} prompt tokens and {new_tokens} new ones takes {needed_gib:.2} GiB, and there are \
     {budget_gib:.2}: allow fewer new tokens, shorter prompts, or more memory"
)]
pub struct NoRoom {
    /// Longest prompt, tokens.
    pub prompt_tokens: usize,
    /// Longest completion, tokens.
    pub new_tokens: usize,
    /// What one sequence takes, GiB.
    pub needed_gib: f64,
    /// What there is, GiB.
    pub budget_gib: f64,
}

/// The memory of a generator, decided before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Sequences that run at once, and their longest.
    pub limits: Limits,
    pages: usize,
    /// Prompt rows that one pass may hold beside the rows of running sequences.
    prefill_rows: usize,
}

impl MemoryPlan {
    /// Room for all sequences at their longest.
    pub fn whole<B: Backend>(b: &B, limits: Limits) -> Self {
        Self {
            limits,
            pages: limits.sequences.saturating_mul(limits.pages_of_one()),
            prefill_rows: b.pass_rows(),
        }
    }

    /// What fits into `budget` bytes: everything, or else as many sequences as fit when each is half as long as it may
    /// become. If they turn out longer, some wait and go on later; what they sample stays the same.
    ///
    /// # Errors
    /// If not even one sequence fits.
    pub fn within<B: Backend>(b: &B, limits: Limits, config: &Config, budget: usize) -> Result<Self, NoRoom> {
        let whole = Self::whole(b, limits);
        if whole.bytes(b, config) <= budget {
            return Ok(whole);
        }
        let one = limits.pages_of_one();
        let fits = |sequences: usize| {
            let pages = sequences.saturating_mul(one).div_ceil(2).max(one);
            Self { limits: Limits { sequences, ..limits }, pages, ..whole }
        };
        let sequences = most(0, limits.sequences, |n| fits(n).bytes(b, config) <= budget);
        if sequences == 0 {
            let Limits { prompt_tokens, new_tokens, .. } = limits;
            let (needed_gib, budget_gib) = (fits(1).bytes(b, config) as f64 / GIB, budget as f64 / GIB);
            return Err(NoRoom { prompt_tokens, new_tokens, needed_gib, budget_gib });
        }
        let plan = fits(sequences);
        let with = |pages| Self { pages, ..plan };
        Ok(with(most(plan.pages, sequences.saturating_mul(one), |pages| {
            with(pages).bytes(b, config) <= budget
        })))
    }

    /// As many sequences as `limits` has, with room for as many tokens in all as fit into `budget` bytes, and no more than they take at
    /// their longest: for requests of unknown lengths, most of them short. If they turn out longer, some wait.
    ///
    /// # Errors
    /// If there is no room for one sequence at its longest.
    pub fn shared<B: Backend>(b: &B, limits: Limits, config: &Config, budget: usize) -> Result<Self, NoRoom> {
        let whole = Self::whole(b, limits);
        let with = |pages| Self { pages, ..whole };
        let one = limits.pages_of_one();
        if with(one).bytes(b, config) > budget {
            // Fewer sequences may leave the room.
            return Self::within(b, limits, config, budget);
        }
        Ok(with(most(one, whole.pages, |pages| with(pages).bytes(b, config) <= budget)))
    }

    /// The same sequences with room for so many tokens in all, as far as that is enough for one.
    #[must_use]
    pub fn with_cache_tokens(self, tokens: usize) -> Self {
        Self { pages: pages_of(tokens).max(self.limits.pages_of_one()), ..self }
    }

    /// Tokens whose keys and values there is room for.
    pub fn cache_tokens(&self) -> usize {
        self.pages * PAGE
    }

    /// Tokens of the longest sequence.
    pub(crate) fn longest_sequence(&self) -> usize {
        self.limits.prompt_tokens + self.limits.new_tokens
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) fn pass_rows(&self) -> usize {
        self.limits.sequences.saturating_add(self.prefill_rows)
    }

    pub(crate) fn prefill_rows(&self) -> usize {
        self.prefill_rows
    }

    /// Rows of drafts in a pass, at most: they take the room of prompt rows.
    pub(crate) fn draft_rows(&self) -> usize {
        match self.limits.drafts {
            Drafts::Off => 0,
            Drafts::Text | Drafts::MultiToken => {
                self.limits.sequences.saturating_mul(drafts::MOST).min(self.prefill_rows)
            }
        }
    }

    /// Rows after which a token is sampled, in one pass.
    pub(crate) fn head_rows(&self) -> usize {
        self.limits.sequences.saturating_add(self.draft_rows())
    }

    /// Whether a module of a model of `config` drafts.
    pub(crate) fn has_module(&self, config: &Config) -> bool {
        self.limits.drafts == Drafts::MultiToken && config.multi_token_layers > 0
    }

    /// Rows of a module's passes, sequences that it drafts for, and rows of its cache.
    pub(crate) fn drafting_rows(&self) -> [usize; 3] {
        [self.pass_rows(), self.limits.sequences, self.pages.saturating_mul(PAGE)]
    }

    /// Bytes that a generator with this plan holds on `b`.
    pub fn bytes<B: Backend>(&self, b: &B, config: &Config) -> usize {
        let Limits { sequences, drafts, .. } = self.limits;
        let head_rows = self.head_rows();
        [
            Purpose::Inference.bytes(b, config, self.pass_rows()),
            Head::bytes(b, config, head_rows),
            b.bytes(head_rows.min(LOGIT_ROWS) * config.vocab_size),
            KvCache::bytes(b, config, self.pages.saturating_mul(PAGE)),
            sequences.saturating_mul(drafts.bytes(self.longest_sequence())),
            drafts.shared_bytes(),
            if self.has_module(config) { Drafting::bytes(b, config, self.drafting_rows()) } else { 0 },
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

/// The greatest number from `least` to `most` that `fits`, if smaller ones fit too; `least` if none does.
fn most(mut least: usize, mut most: usize, fits: impl Fn(usize) -> bool) -> usize {
    while least < most {
        let middle = (least + most).div_ceil(2);
        (least, most) = if fits(middle) { (middle, most) } else { (least, middle - 1) };
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_keeps_to_its_budget() {
        let config = koan_model::testkit::config(29, true);
        let drafts = Drafts::Text;
        let limits = Limits { sequences: 64, prompt_tokens: 100, new_tokens: 1000, drafts };
        let b = &koan_backend::Reference;
        let whole = MemoryPlan::whole(b, limits);
        assert_eq!(MemoryPlan::within(b, limits, &config, whole.bytes(b, &config)), Ok(whole));
        let one = MemoryPlan::whole(b, Limits { sequences: 1, ..limits }).bytes(b, &config);
        let mut before = 1;
        for budget in [one, 2 * one, 5 * one, 20 * one, 40 * one] {
            let plan = MemoryPlan::within(b, limits, &config, budget).expect("room");
            assert!(plan.bytes(b, &config) <= budget && plan.limits.sequences >= before);
            assert!(plan.cache_tokens() >= 1099, "the longest sequence fits alone");
            before = plan.limits.sequences;
        }
        assert!(before > 40, "more than would fit at their longest");
        let shared = MemoryPlan::shared(b, limits, &config, 10 * one).expect("room");
        assert!(shared.bytes(b, &config) <= 10 * one && shared.limits.sequences == 64);
        assert!(shared.cache_tokens() >= 1099 && MemoryPlan::shared(b, limits, &config, one - 1).is_err());
        assert!(MemoryPlan::within(b, limits, &config, one - 1).is_err());
    }
}
