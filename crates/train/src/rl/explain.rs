//! The algorithm in force, in words: `koan rl --explain`.

use koan_reward::RewardConfig;

use super::{RlConfig, preset::Preset};
use crate::stage::AdapterConfig;

impl RlConfig {
    /// The algorithm in force, every constant with its value, for a reader who holds it against the paper.
    pub fn explain(&self) -> String {
        let (pieces, r, o) = (self.algorithm.pieces(), &self.rollout, &self.stage.optim);
        let updates = self.updates_per_step();
        let plural = if updates == 1 { "" } else { "s" };
        let mut lines = vec![self.loss().explain()];
        match (pieces.kl, pieces.reference_every) {
            (0.0, _) => {}
            (_, 0) => lines.push("pi_ref: the model that the run starts from".into()),
            (_, n) => lines.push(format!(
                "pi_ref: the model that the run starts from, and after every {n} updates a copy of pi"
            )),
        }
        lines.push(format!(
            "{} over the {} completions of a problem, {} problems per step, {updates} update{plural} per step",
            pieces.advantage.explain(),
            r.group_size,
            r.problems,
        ));
        lines.extend(self.explain_rewards());
        if pieces.dynamic_sampling {
            lines.push(format!(
                "problems whose completions all earned the same are left out, and others sampled in their place: up to {} \
                 rounds of {} problems per step",
                self.algorithm.max_rounds(),
                r.problems,
            ));
        }
        lines.push(format!(
            "completions at temperature {}, cut at {}; those cut {}",
            r.temperature,
            r.max_new_tokens,
            if pieces.mask_truncated { "take no part" } else { "count as they are" },
        ));
        lines.extend(self.stage.explain_sums());
        lines.extend(self.stage.adapter.as_ref().map(AdapterConfig::explain));
        lines.extend(self.stage.explain_experts("rl"));
        lines.push(o.explain(Some(self.steps * updates)));
        lines.join("\n")
    }

    /// The sum of rewards, and DAPO's soft overlong punishment if it is one of them, or might be missed.
    fn explain_rewards(&self) -> Vec<String> {
        let term = |reward: &RewardConfig| {
            let name = reward.name.as_ref().unwrap_or(&reward.kind);
            if reward.weight == 1.0 { name.clone() } else { format!("{} {name}", reward.weight) }
        };
        let mut lines = vec![format!("r = {}", self.reward.iter().map(term).collect::<Vec<_>>().join(" + "))];
        let overlong = |reward: &&RewardConfig| {
            reward.kind == "length" && reward.options.get("shape").is_none_or(|shape| shape == "overlong")
        };
        if let Some(reward) = self.reward.iter().find(overlong) {
            let tokens = |key: &str| reward.options.get(key).and_then(serde_json::Value::as_u64);
            let longest = tokens("max_tokens").unwrap_or(self.rollout.max_new_tokens.most() as u64);
            let free = longest.saturating_sub(tokens("cache_tokens").unwrap_or(longest.div_ceil(5)));
            lines.push(format!(
                "length: 0 up to {free} tokens, then in a straight line to -1 at {longest} tokens"
            ));
        } else if self.algorithm.preset == Preset::Dapo {
            lines.push(
                "the paper's soft overlong punishment is not in force: it is the reward `length`".into(),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_in_force_is_explained() {
        let explain = |set: &[&str]| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), "run_dir = 'r'\nmodel = 'm'\ndata = 'd'\nsteps = 3\n")
                .expect("written");
            let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
            RlConfig::load(file.path(), &set).expect("a config").explain()
        };
        for (set, said) in [
            (vec!["algorithm.preset=r1"], "after every 400 updates a copy of pi"),
            (
                vec!["algorithm.preset=r1", "algorithm.reference_every=0"],
                "pi_ref: the model that the run starts from\n",
            ),
            (vec!["algorithm.preset=grpo"], "r = math\n"),
            (vec!["algorithm.preset=dapo"], "up to 10 rounds of 8 problems per step"),
            (vec!["algorithm.preset=dapo"], "those cut take no part"),
            (vec!["optim.moments=bf16"], "moments in bf16, rounded stochastically"),
            (vec!["algorithm.preset=dapo"], "the paper's soft overlong punishment is not in force"),
            (
                vec!["reward=[{kind='math'}, {kind='length', weight=0.5, cache_tokens=56}]"],
                "r = math + 0.5 length\nlength: 0 up to 200 tokens, then in a straight line to -1 at 256 tokens",
            ),
        ] {
            assert!(explain(&set).contains(said), "{set:?}: {}", explain(&set));
        }
        let grows = "rollout.max_new_tokens=[{tokens=100}, {from_step=3, tokens=300}]";
        let said = "completions at temperature 1, cut at 100 tokens, from step 3 on 300; those cut count as they are";
        assert!(explain(&[grows]).contains(said), "{}", explain(&[grows]));
        let without = explain(&["algorithm.kl=0", "algorithm.reference_every=3"]);
        assert!(!without.contains("pi_ref") && !without.contains("rounds"), "{without}");
    }
}
