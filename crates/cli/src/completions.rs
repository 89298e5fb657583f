//! `koan completions`

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, output::Stdout};

/// Write what a shell needs to complete koan's commands and options
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan completions bash > ~/.local/share/bash-completion/completions/koan
  koan completions zsh > ~/.zfunc/_koan       (a directory of $fpath)
  koan completions fish > ~/.config/fish/completions/koan.fish
  koan completions powershell >> $PROFILE
  koan completions elvish >> ~/.config/elvish/rc.elv")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new(); // `generate` panics if a write fails
        clap_complete::generate(self.shell, &mut Cli::command(), "koan", &mut script);
        Ok(Stdout.write_all(&script)?)
    }
}
