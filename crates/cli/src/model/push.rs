//! `koan model push`

use std::path::{Path, PathBuf};

use koan_hub::{Hub, Pushed};

use crate::progress::Progress;

/// Send a model to a Hugging Face hub: its weights, config, tokenizer, licence and card
///
/// HF_TOKEN is a token that may write; HF_ENDPOINT names another hub. The repository and the branch are made if they are not there. Files that the
/// hub has as they are are not sent again, so a push that was interrupted goes on by the same command. `koan model card` writes the card.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan model push me/smollm2-arithmetic --model runs/smollm2-arithmetic/model
  koan model push me/smollm2-arithmetic --model runs/smollm2-arithmetic/model --revision seed-2 --message 'The second seed' --private")]
pub(crate) struct Push {
    /// The repository on the hub
    #[arg(value_name = "OWNER/NAME")]
    name: String,
    /// The model, a Hugging Face directory or an adapter's [default: models/NAME]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Make the repository private, if it is made
    #[arg(long)]
    private: bool,
    /// The branch
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    revision: String,
    /// The commit's message
    #[arg(long, value_name = "TEXT", default_value = "Model sent by koan")]
    message: String,
}

impl Push {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = self
            .model
            .unwrap_or_else(|| Path::new("models").join(self.name.rsplit('/').next().unwrap_or(&self.name)));
        let push = koan_hub::Push {
            name: &self.name,
            branch: &self.revision,
            dir: &dir,
            private: self.private,
            message: &self.message,
        };
        let mut bar: Option<Progress> = None;
        let mebi = |bytes: u64| (bytes >> 20) as usize;
        let pushed = Hub::from_env()?.push(&push, &mut |progress| {
            bar.get_or_insert_with(|| Progress::new("MiB", mebi(progress.of)))
                .set(mebi(progress.done), progress.file);
        })?;
        if let Some(bar) = bar {
            bar.finish();
        }
        let Pushed { commit, files, unchanged, left_out, .. } = pushed;
        if !left_out.is_empty() {
            note!("not sent, no part of the model: {}", left_out.join(", "));
        }
        match commit {
            Some(commit) => say!("{commit}: {} files, {} were there", files.len(), unchanged.len())?,
            None => say!("{} has all {} files as they are: nothing to send", self.name, unchanged.len())?,
        }
        Ok(())
    }
}
