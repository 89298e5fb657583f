//! `koan rl --plan`

use koan_backend::{Backend, ProductPrecision};
use koan_model::CacheForm;
use koan_train::rl::{Forecast, OnRanks, RlConfig};

use crate::device::{Job, Running};

/// Prints what a run would take; starts nothing, and writes nothing.
pub(super) struct Planned {
    pub(super) config: RlConfig,
    pub(super) ranks: usize,
    /// Gbit/s between them.
    pub(super) network: f64,
}

impl Job for Planned {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let Self { config, ranks, network } = self;
        let forecast = Forecast::on_ranks(b, &config, ranks, network * 1e9 / 8.0)?;
        let Forecast { plan, estimate: time, speed, tokens: [prompt, ..], .. } = &forecast;
        let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
        let gflops = |speed: f64| format!("{:.1}", speed / 1e9);
        say!(
            "{} steps of {} problems × {} completions, from {} problems; prompts of up to {prompt} tokens, completions of \
             up to {}; {:.1} million parameters; {running}",
            config.steps,
            config.rollout.problems,
            config.rollout.group_size,
            forecast.problems,
            config.rollout.max_new_tokens,
            forecast.parameters as f64 / 1e6,
        )?;
        if config.stage.precision == ProductPrecision::Fp8 {
            say!("products of linear layers in FP8, emulated")?;
        }
        if config.stage.cache == CacheForm::Latent {
            say!("attention to latents, which are cached")?;
        }
        if let Some(adapter) = &forecast.adapter {
            say!("trains  {adapter}")?;
            if config.loss().kl != 0.0 {
                say!("        the reference policy shares the frozen weights: no second model is held")?;
            }
        }
        if let Some(OnRanks { parts, problems, bytes, sum_s }) = forecast.ranks {
            say!(
                "ranks   {ranks} like this machine, each with {} of {} shards and up to {problems} problems of a step; in an update \
                 each sends and receives {}, in {} at {network} Gbit/s; what follows is of each",
                parts.of_each_rank(),
                parts.shards,
                gib(bytes),
                duration(sum_s),
            )?;
        }
        let free = |bytes: Option<u64>| bytes.map_or_else(String::new, |n| format!(" of {} free", gib(n)));
        say!("memory  {}{}: {}", gib(plan.bytes()), free(plan.available), plan.breakdown())?;
        say!(
            "disk    {}{} at {}: {} checkpoints, one more while it is written, and the final model; rollouts not counted",
            gib(forecast.disk),
            free(forecast.available_disk),
            config.stage.run_dir.display(),
            config.stage.checkpoints_kept,
        )?;
        say!(
            "time    about {} per step (generate {}, train {}), {} for {} steps{}",
            duration(time.generate_s + time.train_s),
            duration(time.generate_s),
            duration(time.train_s),
            duration(time.total_s),
            config.steps,
            if config.eval.is_some() {
                format!(" and their held-out measurements of {}", duration(time.eval_s))
            } else {
                String::new()
            },
        )?;
        say!(
            "        an estimate: operations are counted as if every completion became as long as it may, and divided by the \
             speed of products of this model's shapes, measured here just now (GFLOP/s: generate {}, forward {}, backward {} \
             and {}); rewards and what is not a product are not counted",
            gflops(speed.sample),
            gflops(speed.forward),
            gflops(speed.backward_input),
            gflops(speed.backward_weight),
        )?;
        if config.algorithm.pieces().dynamic_sampling {
            let rounds = config.algorithm.max_rounds();
            say!("        generating counts as one round; dynamic sampling takes 1 to {rounds}")?;
        }
        for obstacle in forecast.obstacles() {
            say!("it does not fit here: {obstacle}")?;
        }
        Ok(())
    }
}

/// Seconds, in a unit that suits them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}
