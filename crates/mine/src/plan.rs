//! The stages as jobs of Slurm: an array a stage, each begun when the one before has ended well.

use std::{fmt::Write as _, path::PathBuf};

use crate::{
    MineError,
    config::setting,
    stages::{Run, Stage},
};

/// What the jobs of a cluster need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slurm {
    /// Shards of a stage, at most: a stage has no more than its units.
    pub shards: usize,
    /// Cores of a job.
    pub cpus: usize,
    /// Memory of a job, as Slurm has it (`4G`).
    pub memory: String,
    /// More options of `sbatch`, as `--partition=long`.
    pub options: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// The config.
    pub config: PathBuf,
    /// The directory in which the program runs: paths of the config are relative to it.
    pub directory: PathBuf,
    /// Where the scripts and the logs go.
    pub out: PathBuf,
}

/// A script: its name and its text.
pub type Script = (String, String);

impl Slurm {
    /// The scripts: one a stage, and `submit.sh`, which hands them to Slurm.
    ///
    /// # Errors
    /// No shards or cores; an option that is more than one.
    pub fn scripts(&self, run: &Run) -> Result<Vec<Script>, MineError> {
        if self.shards == 0 || self.cpus == 0 {
            return Err(setting("shards", "shards and cores of a job must be at least 1"));
        }
        let is_option = |option: &&String| option.starts_with("--") && !option.contains('\n');
        if let Some(wrong) = self.options.iter().find(|option| !is_option(option)) {
            return Err(setting(
                "sbatch",
                format!("`{wrong}` is no option; give one at a time, as in --partition=long"),
            ));
        }
        let mut scripts: Vec<Script> = Stage::ALL
            .into_iter()
            .map(|stage| (format!("{stage}.sbatch"), self.script(run, stage)))
            .collect();
        scripts.push(("submit.sh".to_owned(), submit(run)));
        Ok(scripts)
    }

    fn script(&self, run: &Run, stage: Stage) -> String {
        let shards = self.shards.min(run.units(stage));
        let log = self.out.join(format!("{stage}-%a.log")).display().to_string();
        let mut text = format!(
            "#!/usr/bin/env bash\n\
             #SBATCH --job-name=koan-mine-{stage}\n\
             #SBATCH --array=0-{}\n\
             #SBATCH --cpus-per-task={}\n\
             #SBATCH --mem={}\n\
             #SBATCH --requeue\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --output={}\n",
            shards - 1,
            self.cpus,
            self.memory,
            quoted(&log)
        );
        for option in &self.options {
            let _ = writeln!(text, "#SBATCH {option}"); // a String takes all
        }
        let path = |path: &PathBuf| quoted(&path.display().to_string());
        let _ = write!(
            text,
            "set -euo pipefail\ncd {}\n# What is made already is not made again: a job that was killed or requeued goes on where it was.\n\
             exec {} mine run {} --run-dir {} --stage {stage} --shard \"$SLURM_ARRAY_TASK_ID/{shards}\" --workers {}\n",
            path(&self.directory),
            path(&self.program),
            path(&self.config),
            quoted(&run.folder().display().to_string()),
            self.cpus
        );
        text
    }
}

fn submit(run: &Run) -> String {
    let mut text = "#!/usr/bin/env bash\n\
         # Hands the stages to Slurm, each to begin when the one before has ended well. Run it again after a failure: what is made is\n\
         # not made again.\n\
         set -euo pipefail\ncd \"$(dirname \"$0\")\"\n"
        .to_owned();
    let mut before = None;
    for stage in Stage::ALL {
        let after = before.map_or(String::new(), |before| {
            format!(" --dependency=\"afterok:${before}\" --kill-on-invalid-dep=yes")
        });
        let _ = writeln!(text, "{stage}=$(sbatch --parsable{after} {stage}.sbatch)");
        before = Some(stage);
    }
    let report = quoted(&run.folder().join("report.json").display().to_string());
    let _ =
        writeln!(text, "echo \"jobs $pages $urls $near $clusters $write $report; the last writes \"{report}");
    text
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn a_stage_is_an_array_that_waits_for_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        for n in 0..3 {
            std::fs::write(folder.path().join(format!("{n}.warc")), "").expect("written");
        }
        let at = |name: &str| folder.path().join(name);
        let toml = format!("input = [{:?}]\nrun_dir = {:?}\n", at("*.warc").display(), at("it's").display());
        std::fs::write(at("mine.toml"), toml).expect("written");
        let run = Run::open(Config::read(&at("mine.toml")).expect("a config"), None).expect("a run");
        let mut plan = Slurm {
            shards: 8,
            cpus: 4,
            memory: "3G".to_owned(),
            options: vec!["--partition=long".to_owned()],
            program: "/opt/koan".into(),
            config: at("mine.toml"),
            directory: folder.path().into(),
            out: at("slurm"),
        };
        let scripts = plan.scripts(&run).expect("scripts");
        let names: Vec<&str> = scripts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "pages.sbatch",
                "urls.sbatch",
                "near.sbatch",
                "clusters.sbatch",
                "write.sbatch",
                "report.sbatch",
                "submit.sh"
            ]
        );
        let text = |n: usize| scripts[n].1.as_str();
        assert!(
            text(0).contains("--array=0-2\n") && text(0).contains("--shard \"$SLURM_ARRAY_TASK_ID/3\""),
            "{}",
            text(0)
        );
        assert!(
            text(1).contains("--array=0-7\n")
                && text(3).contains("--array=0-0\n")
                && text(4).contains("#SBATCH --partition=long\n")
        );
        assert!(text(0).contains("it'\\''s' --stage pages") && text(0).contains("#SBATCH --requeue\n"));
        assert!(text(6).contains("near=$(sbatch --parsable --dependency=\"afterok:$urls\""), "{}", text(6));
        for (_, script) in &scripts {
            let checked = std::process::Command::new("bash").args(["-n", "-c", script]).status();
            assert!(checked.expect("bash").success(), "{script}");
        }
        plan.options.push("long".to_owned());
        assert!(plan.scripts(&run).expect_err("no option").to_string().contains("`long` is no option"));
    }
}
