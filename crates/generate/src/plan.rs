//! How much memory generation takes, and how many sequences run at once in what there is.

use std::{fs, path::Path};

use koan_backend::Reference;
use koan_model::{Config, KvCache, Purpose};

use crate::pages::{PAGE, pages_of};

/// Prompt rows that one pass may hold beside the rows of running sequences: enough to keep products busy.
pub(crate) const PREFILL_ROWS: usize = 256;

/// Rows whose logits are held at once where draws are truncated.
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
}

impl Limits {
    /// Pages of the longest sequence: its prompt less the last token; that, and each token drawn but the last.
    fn pages_of_one(&self) -> usize {
        pages_of(self.prompt_tokens.saturating_sub(1)) + pages_of(self.new_tokens)
    }

    /// Bytes of f32 that a generator holds which runs them all at their longest.
    pub fn bytes(&self, config: &Config) -> usize {
        MemoryPlan::whole(*self).bytes(config)
    }
}

/// There is not even room for one sequence.
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
}

impl MemoryPlan {
    /// Room for all sequences at their longest.
    pub fn whole(limits: Limits) -> Self {
        Self { limits, pages: limits.sequences * limits.pages_of_one() }
    }

    /// What fits into `budget` bytes: everything, or else as many sequences as fit when each is half as long as it may
    /// become. If they turn out longer, some wait and go on later; what they draw stays the same.
    ///
    /// # Errors
    /// If not even one sequence fits.
    pub fn within(limits: Limits, config: &Config, budget: usize) -> Result<Self, NoRoom> {
        let whole = Self::whole(limits);
        if whole.bytes(config) <= budget {
            return Ok(whole);
        }
        let one = limits.pages_of_one();
        let fits = |sequences: usize| {
            let pages = (sequences * one).div_ceil(2).max(one);
            Self { limits: Limits { sequences, ..limits }, pages }
        };
        let (mut least, mut most) = (0, limits.sequences);
        while least < most {
            let middle = (least + most).div_ceil(2);
            let enough = fits(middle).bytes(config) <= budget;
            (least, most) = if enough { (middle, most) } else { (least, middle - 1) };
        }
        if least == 0 {
            let Limits { prompt_tokens, new_tokens, .. } = limits;
            let (needed_gib, budget_gib) = (fits(1).bytes(config) as f64 / GIB, budget as f64 / GIB);
            return Err(NoRoom { prompt_tokens, new_tokens, needed_gib, budget_gib });
        }
        let plan = fits(least);
        let spare = (budget - plan.bytes(config)) / (4 * Self::numbers_per_page(config));
        Ok(Self { pages: (plan.pages + spare).min(least * one), ..plan })
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

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    pub(crate) fn pass_rows(&self) -> usize {
        self.limits.sequences + PREFILL_ROWS
    }

    fn numbers_per_page(config: &Config) -> usize {
        PAGE * KvCache::<Reference>::numbers_per_row(config)
    }

    /// Bytes of f32 that a generator with this plan holds.
    pub fn bytes(&self, config: &Config) -> usize {
        let head = 2 * config.hidden_size + 4;
        let sequences = self.limits.sequences;
        4 * (self.pass_rows() * Purpose::Inference.numbers_per_row(config)
            + sequences * head
            + sequences.min(LOGIT_ROWS) * config.vocab_size
            + self.pages * Self::numbers_per_page(config))
    }
}

/// Memory that can be had without swapping, bytes: what Linux says is available, and what the control group allows. None
/// where the system does not say.
pub fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    Some(group_memory(Path::new("/sys/fs/cgroup")).map_or(machine, |group| group.min(machine)))
}

/// What the control group (cgroup v2) leaves: its limit less what is in use, page cache not counted.
fn group_memory(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let (limit, used) = (read("memory.max").and_then(number)?, read("memory.current").and_then(number)?);
    let stat = read("memory.stat")?;
    let cached = stat.lines().find_map(|line| line.strip_prefix("file "))?.parse::<u64>().ok()?;
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_keeps_to_its_budget() {
        let config = koan_model::testkit::config(29, true);
        let limits = Limits { sequences: 64, prompt_tokens: 100, new_tokens: 1000 };
        let whole = MemoryPlan::whole(limits);
        assert_eq!(MemoryPlan::within(limits, &config, whole.bytes(&config)), Ok(whole));
        let one = MemoryPlan::whole(Limits { sequences: 1, ..limits }).bytes(&config);
        let mut before = 1;
        for budget in [one, 2 * one, 5 * one, 20 * one, 40 * one] {
            let plan = MemoryPlan::within(limits, &config, budget).expect("room");
            assert!(plan.bytes(&config) <= budget && plan.limits.sequences >= before);
            assert!(plan.cache_tokens() >= 1099, "the longest sequence fits alone");
            before = plan.limits.sequences;
        }
        assert!(before > 40, "more than would fit at their longest");
        assert!(MemoryPlan::within(limits, &config, one - 1).is_err());
    }
}
