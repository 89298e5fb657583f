//! How steps of a recipe are made: by the verbs, on this device.

use std::{error::Error, path::Path};

use koan_backend::Backend;
use koan_recipe::{Ended, Event, Job as Step, Kind, Peak, Perform, Rates, Standing, StepState};
use koan_train::{
    distill::DistillConfig,
    prefer::PreferConfig,
    reject::RejectConfig,
    rl::RlConfig,
    speed,
    stage::{Launch, RunSummary},
    supervised::{Stage, SupervisedConfig},
};

use super::{
    show::{figures, seconds},
    words::{Verb, label_command},
};
use crate::{
    device::{Job, Running},
    distill,
    interrupt::{is_asked, stop_on_signal},
    model, prefer,
    ranks::ranks,
    reject, rl,
    stage::STOPPING,
    supervised,
};

/// A stage with its settings.
pub(super) enum Settings {
    Supervised(Stage, Box<SupervisedConfig>),
    Rl(Box<RlConfig>),
    Reject(Box<RejectConfig>),
    Prefer(Box<PreferConfig>),
    Distill(Box<DistillConfig>),
}

impl Settings {
    /// Those of `step`, if it is a stage.
    ///
    /// # Errors
    /// Unknown keys, with the nearest that is known, and values.
    pub(super) fn of(step: &Step) -> anyhow::Result<Option<Self>> {
        let (table, origin) = (&step.settings, &*step.recipe);
        let supervised = |stage| {
            Ok::<_, anyhow::Error>(Self::Supervised(
                stage,
                Box::new(SupervisedConfig::of_table(stage, table, origin)?),
            ))
        };
        Ok(Some(match step.kind {
            Kind::Pretrain => supervised(Stage::Pretrain)?,
            Kind::Sft => supervised(Stage::Sft)?,
            Kind::Rl => Self::Rl(Box::new(RlConfig::of_table(table, origin)?)),
            Kind::Reject => Self::Reject(Box::new(RejectConfig::of_table(table, origin)?)),
            Kind::Prefer => Self::Prefer(Box::new(PreferConfig::of_table(table, origin)?)),
            Kind::Distill => Self::Distill(Box::new(DistillConfig::of_table(table, origin)?)),
            _ => return Ok(None),
        }))
    }
}

/// Makes steps on a device.
pub(super) struct Performer<'a, B> {
    pub(super) b: &'a B,
    pub(super) running: Running,
    pub(super) rates: Rates,
    /// What [`Perform::peak`] found.
    pub(super) peak: Option<Peak>,
}

impl<B: Backend> Performer<'_, B> {
    /// Runs a stage in directory `dir`, or goes on with the run that is there.
    fn stage(&self, settings: &Settings, dir: &Path) -> anyhow::Result<Ended> {
        let stop = stop_on_signal(STOPPING);
        let resume = dir.join("config.toml").exists();
        let launch = Launch { resume, threads: self.running.judges, stop: &stop, ranks: ranks() };
        let (b, running) = (self.b, self.running);
        let RunSummary { stopped, .. } = match settings {
            Settings::Supervised(stage, config) => supervised::show(b, running, *stage, config, launch)?,
            Settings::Rl(config) => rl::show(b, running, config, launch)?,
            Settings::Reject(config) => reject::show(b, running, config, launch)?.run,
            Settings::Prefer(config) => prefer::show(b, running, config, launch)?,
            Settings::Distill(config) => distill::show(b, running, config, launch)?,
        };
        Ok(if stopped { Ended::Stopped } else { Ended::Made })
    }

    fn verb(&self, step: &Step) -> anyhow::Result<Ended> {
        stop_on_signal("ending after this step; what is made is kept");
        let made = match Verb::of(step.kind, &step.settings, &step.dir)? {
            // It appears whole or not at all: there it is made.
            Verb::Init(_) | Verb::Import { .. } if step.dir.join("model").exists() => Ok(()),
            Verb::Init(init) => init.run(),
            Verb::Import { gguf } => model::import(&gguf, &step.dir.join("model")),
            Verb::Problems(generate) => generate.run(),
            Verb::Generate(generate) => Job::run(generate, self.b, self.running),
            Verb::Convert(convert) => convert.run(),
            Verb::Decontaminate(decontaminate) => decontaminate.run(),
            Verb::Eval(eval) => Job::run(eval, self.b, self.running),
            Verb::Label if step.dir.join("labels.jsonl").exists() => Ok(()),
            Verb::Label => {
                let command = label_command(&step.settings, &step.dir)?;
                return Ok(Ended::Waiting(format!(
                    "{command}\n\n  Ctrl-C ends it and writes the rows; then the same `koan recipe run` goes on"
                )));
            }
        };
        match made {
            // Its own words say how to go on with it alone.
            Err(_) if is_asked() => Ok(Ended::Stopped),
            made => made.map(|()| Ended::Made),
        }
    }
}

impl<B: Backend> Perform for Performer<'_, B> {
    fn check(&self, step: &Step) -> Result<(), Box<dyn Error + Send + Sync>> {
        if Settings::of(step)?.is_none()
            && let Verb::Problems(generate) = Verb::of(step.kind, &step.settings, &step.dir)?
        {
            // More than there are is an error now, not after hours of other steps.
            generate.problems()?;
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<Ended, Box<dyn Error + Send + Sync>> {
        Ok(match Settings::of(step)? {
            Some(settings) => self.stage(&settings, &step.dir)?,
            None => self.verb(step)?,
        })
    }

    fn peak(&mut self) -> Option<Peak> {
        if self.peak.is_none() {
            self.peak = speed::peak(self.b).ok().map(|flops_per_s| Peak { flops_per_s });
        }
        self.peak
    }

    fn rates(&self) -> Rates {
        self.rates
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Skipped { name } => note!("== {name}: made already"),
            Event::SetAside { name, path } => {
                note!("== {name}: what it made before is now in {}", path.display());
            }
            Event::Begins { name, kind, number: [n, of], standing } => {
                let why = match standing {
                    Standing::Begun => "; it goes on".to_owned(),
                    Standing::Changed(what) => {
                        format!("; made again, for these changed: {}", what.join(", "))
                    }
                    _ => String::new(),
                };
                note!("== {name} ({kind}), step {n} of {of}{why}");
            }
            Event::Made { state } => note!("== {}", made(state)),
        }
    }
}

fn made(state: &StepState) -> String {
    let figures = figures(state);
    let separator = if figures.is_empty() { "" } else { "; " };
    format!("{}: made in {}{separator}{figures}", state.name, seconds(state.cost.seconds))
}
