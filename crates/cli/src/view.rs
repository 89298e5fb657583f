//! `koan view`

use std::path::PathBuf;

use koan_view::{Server, Viewer};

/// Look at a run in the browser: its curves, live while it trains, and what the model wrote
///
/// Serves one page at an address of this machine until Ctrl-C. The page shows rewards, accuracy, lengths and the rest of
/// metrics.jsonl, and the completions of every step with what each reward said of them. It changes nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan view runs/first
  koan view runs/first --port 0    # any port that is free
  ssh -L 8383:127.0.0.1:8383 BOX koan view runs/first    # a run on another machine")]
pub(crate) struct View {
    /// The run's directory: what its config calls run_dir
    run: PathBuf,
    /// Where to listen; all but this machine's own address shows the run to whoever reaches it, by an address or by the
    /// name given here
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// At which port; 0: any that is free
    #[arg(long, default_value_t = 8383)]
    port: u16,
}

impl View {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let viewer = Viewer::open(&self.run)?;
        let server = Server::bind(&self.host, self.port)?;
        say!("{} shows {}; Ctrl-C ends it", server.url(), self.run.display())?;
        Ok(server.run(move |request| viewer.answer(request))?)
    }
}
