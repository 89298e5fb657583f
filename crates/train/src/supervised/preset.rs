//! Pretraining by the names of papers: a preset is the paper's choice of every setting that does not depend on the size of
//! model and data.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::batches::BatchGrowth;
use crate::optim::{Phase, Schedule, Shape};

/// How a paper pretrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// DeepSeek-V3 (arXiv:2412.19437, sections 4.1 and 4.2).
    DeepseekV3,
}

/// DeepSeek-V3's run, in the paper's own numbers.
mod v3 {
    /// Tokens of the run.
    pub(super) const TOKENS: f64 = 14.8e12;
    /// Sequences of the first update, and of those after the growth.
    pub(super) const BATCH: [f64; 2] = [3072.0, 15_360.0];
    /// Tokens of a sequence.
    pub(super) const LENGTH: f64 = 4096.0;
    /// Tokens in which updates grow.
    pub(super) const GROWING: f64 = 469e9;
    /// Updates of the warm-up.
    pub(super) const WARMUP_STEPS: f64 = 2000.0;
    /// Tokens in which the learning rate stays, then falls along half a cosine, then stays twice.
    pub(super) const PHASES: [f64; 4] = [10e12, 4.3e12, 333e9, 167e9];
    /// The learning rates: at first, after the cosine, and at last.
    pub(super) const LR: [f64; 3] = [2.2e-4, 2.2e-5, 7.3e-6];
}

impl Preset {
    /// The settings that `table`, of a run, gets where it does not give them.
    pub(super) fn settings(self, table: &Table) -> Vec<(&'static str, Value)> {
        let Self::DeepseekV3 = self;
        let growth = v3_growth();
        let in_force = BatchGrowth {
            from: number(table, "batch_growth", "from").unwrap_or(growth.from),
            until: number(table, "batch_growth", "until").unwrap_or(growth.until),
        };
        let in_force = if in_force.check().is_ok() { in_force } else { growth };
        let schedule = Value::try_from(v3_schedule(in_force)).expect("plain values");
        let mut settings = vec![
            ("optim.lr", v3::LR[0].into()),
            ("optim.schedule", schedule),
            ("optim.beta1", 0.9.into()),
            ("optim.beta2", 0.95.into()),
            ("optim.weight_decay", 0.1.into()),
            ("optim.grad_clip", 1.0.into()),
            ("optim.moments", "bf16".into()),
            ("packing", "across".into()),
            ("fim.rate", 0.1.into()),
            ("multi_token.until", in_force.steps_of(v3::PHASES[0] / v3::TOKENS).into()),
            ("batch_growth.from", growth.from.into()),
            ("batch_growth.until", growth.until.into()),
        ];
        if number(table, "optim", "warmup_steps").is_none() {
            settings.push(("optim.warmup_share", (v3::WARMUP_STEPS / v3_steps()).into()));
        }
        settings
    }
}

/// The updates of V3's run, from its tokens.
fn v3_steps() -> f64 {
    v3::TOKENS / (v3_growth().mean() * v3::BATCH[1] * v3::LENGTH)
}

/// By its tokens, V3's updates grow in so many of its steps.
fn v3_growth() -> BatchGrowth {
    let (from, share) = (v3::BATCH[0] / v3::BATCH[1], v3::GROWING / v3::TOKENS);
    // The tokens until then, until · (1 + from) / 2, are this share of all, 1 − until · (1 − from) / 2.
    let until = share / (0.5 * (1.0 + from) + 0.5 * share * (1.0 - from));
    BatchGrowth { from, until }
}

/// V3's learning rates at its shares of the tokens, of a run whose updates grow so.
fn v3_schedule(growth: BatchGrowth) -> Schedule {
    let [constant, cosine, tail, _] = v3::PHASES;
    let [_, low, last] = v3::LR.map(|lr| lr / v3::LR[0]);
    let until = |tokens: f64| growth.steps_of(tokens / v3::TOKENS);
    Schedule::Phases(vec![
        Phase { until: until(constant), to: 1.0, shape: Shape::Constant },
        Phase { until: until(constant + cosine), to: low, shape: Shape::Cosine },
        Phase { until: until(constant + cosine + tail), to: low, shape: Shape::Constant },
        Phase { until: 1.0, to: last, shape: Shape::Constant },
    ])
}

/// The number that `table` gives for a key of a table in it.
fn number(table: &Table, section: &str, key: &str) -> Option<f64> {
    let value = table.get(section)?.get(key)?;
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
}

#[cfg(test)]
mod tests {
    use super::{super::batches::BatchSize, *};
    use crate::{
        TrainError,
        stage::Settings,
        supervised::{Stage, SupervisedConfig},
    };

    fn load(stage: Stage, text: &str, set: &[&str]) -> Result<SupervisedConfig, TrainError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = format!("preset = 'deepseek-v3'\nrun_dir = 'r'\nmodel = 'm'\ndata = 'd'\n{text}");
        std::fs::write(file.path(), text).expect("written");
        SupervisedConfig::load(stage, file.path(), &set.iter().map(|&set| set.to_owned()).collect::<Vec<_>>())
    }

    /// Each number of the paper's sections 4.1 and 4.2, at its step.
    #[test]
    fn a_run_of_v3s_size_has_the_papers_numbers() {
        let steps = 240_210; // 12,424 that grow, then 14.331e12 tokens by 15,360 sequences
        let text = format!("steps = {steps}\nbatch_tokens = {}\nmax_tokens = 4096", 15_360 * 4096);
        let config = load(Stage::Pretrain, &text, &[]).expect("a config");
        let optim = &config.stage.optim;
        assert_eq!((optim.beta1, optim.beta2, optim.weight_decay, optim.grad_clip), (0.9, 0.95, 0.1, 1.0));
        assert_eq!(optim.moments, koan_backend::MomentType::Bf16);

        let size = BatchSize::new(config.batch_tokens, config.batch_growth);
        let sequences = |step| size.at(step, steps) as f64 / 4096.0;
        assert_eq!([1, 6213, 12_425, steps].map(sequences), [3072.0, 9216.0, 15_360.0, 15_360.0]);
        assert!(sequences(12_424) < 15_360.0);

        let read = |until: u64| (1..=until).map(|step| size.at(step, steps)).sum::<u64>() as f64;
        let Schedule::Phases(phases) = &optim.schedule else { panic!("{:?}", optim.schedule) };
        let ends: Vec<u64> = phases.iter().map(|phase| (phase.until * steps as f64).round() as u64).collect();
        assert_eq!(ends, [163_916, 232_263, 237_556, 240_210]);
        for (until, tokens) in
            [(12_424, 469e9), (ends[0], 10e12), (ends[1], 14.3e12), (ends[2], 14.633e12), (ends[3], 14.8e12)]
        {
            assert!(
                (read(until) - tokens).abs() < 6.3e7,
                "{tokens} tokens after step {until}: {}",
                read(until)
            );
        }

        let lr = |step: u64| optim.lr_at(step - 1, steps);
        for (step, wanted) in [
            (1, 1.1e-7),
            (1000, 1.1e-4),
            (2000, 2.2e-4),
            (2001, 2.2e-4),
            (ends[0], 2.2e-4),
            ((ends[0] + ends[1]).div_ceil(2), 1.21e-4),
            (ends[1] + 1, 2.2e-5),
            (ends[2], 2.2e-5),
            (ends[2] + 1, 7.3e-6),
            (steps, 7.3e-6),
        ] {
            assert!((lr(step) / wanted - 1.0).abs() < 3e-5, "step {step}: {} for {wanted}", lr(step));
        }
        assert_eq!([2000, ends[0]].map(lr), [2.2e-4; 2]);
        assert!([ends[1] + 1, ends[2]].map(lr).iter().all(|lr| (lr - 2.2e-5).abs() < 1e-11));
    }

    #[test]
    fn each_choice_may_be_made_otherwise() {
        let config = load(
            Stage::Pretrain,
            "epochs = 1\n[optim]\nlr = 1e-3\nwarmup_steps = 7\nmoments = 'f32'",
            &["optim.beta2=0.99", "batch_growth.from=0.5"],
        )
        .expect("a config");
        let optim = &config.stage.optim;
        assert_eq!((optim.lr, optim.beta2, optim.warmup(1000)), (1e-3, 0.99, 7));
        assert_eq!(optim.moments, koan_backend::MomentType::F32);
        assert_eq!(config.batch_growth.map(|growth| growth.from), Some(0.5));
        // Its shares of the tokens are V3's, whatever grows.
        let Schedule::Phases(phases) = &optim.schedule else { panic!("{:?}", optim.schedule) };
        let growth = config.batch_growth.expect("given");
        assert_eq!(phases[0].until, growth.steps_of(10.0 / 14.8));
        let same = load(Stage::Pretrain, "steps = 100\nbatch_growth = {from = 1, until = 0}", &[]);
        let Schedule::Phases(phases) = same.expect("a config").stage.optim.schedule else { panic!("phases") };
        assert_eq!(phases[0].until, 10.0 / 14.8);
        let named = load(Stage::Pretrain, "steps = 9", &["optim.schedule=cosine", "optim.lr_end=1e-5"]);
        assert_eq!(named.expect("a config").stage.optim.schedule, Schedule::Cosine);

        // What is in force is said outright, and reads back as the same run.
        let written = config.to_toml();
        let text = written.replace("preset = \"deepseek-v3\"\n", "");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &text).expect("written");
        let again = SupervisedConfig::load(Stage::Pretrain, file.path(), &[]).expect(&text);
        assert_eq!(SupervisedConfig { preset: Some(Preset::DeepseekV3), ..again }, config);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (stage, text, said) in [
            (Stage::Sft, "steps = 3", "`preset` is given: a setting of `koan pretrain` alone"),
            (Stage::Pretrain, "steps = 3\nbatch_growth = {from = 0}", "`batch_growth.from` is 0"),
            (Stage::Pretrain, "steps = 3\nbatch_growth = {until = 2}", "`batch_growth.until` is 2"),
            (Stage::Pretrain, "steps = 3\nbatch_growth = 3", "batch_growth"),
            (Stage::Pretrain, "steps = 3\n[optim]\nlr_end = 1e-5", "no setting of a schedule of phases"),
            (Stage::Pretrain, "steps = 3\n[optim]\nwarmup_share = 0.1\nwarmup_steps = 3", "not both"),
            (Stage::Pretrain, "steps = 3\npreset = 3", "preset"),
        ] {
            let error = load(stage, text, &[]).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let error = load(Stage::Pretrain, "steps = 3", &["preset=v3"]).expect_err("refused").to_string();
        assert!(error.contains("--set preset=v3") && error.contains("deepseek-v3"), "{error}");
    }
}
