//! `koan view`

use std::path::PathBuf;

use koan_view::{Server, Viewer};

use crate::recipe;

/// Look at runs in the browser: their curves, live while they train, and what the model wrote
///
/// Serves one page at an address of this machine until Ctrl-C. The page shows rewards, accuracy, lengths and the rest of
/// metrics.jsonl, several runs side by side with the settings in which they differ, and the completions of every step with
/// what each reward said of them. Of a recipe it shows the steps with what reads what, how far each is, its figures and its cost, the runs inside, and
/// where a row of its data comes from. It changes nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan view runs/first
  koan view runs/first runs/second    # side by side
  koan view runs                      # all runs in a folder, the newest first
  koan view runs/mine                 # a recipe's run_dir: its steps, and the runs inside
  koan view runs/first --port 0       # any port that is free
  ssh -L 8383:127.0.0.1:8383 BOX koan view runs/first    # a run on another machine; the same port on both

http://127.0.0.1:8383/metrics.csv?run=first is the metrics of a run as a table.")]
pub(crate) struct View {
    /// Directories of runs and of recipes (what their files call run_dir), and folders of them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
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
        let viewer = Viewer::open(&self.runs)?.with_tracer(Box::new(recipe::trace_for_page));
        let server = Server::bind(&self.host, self.port)?;
        let shown = match (&self.runs[..], viewer.recipes().len(), viewer.len()) {
            ([one], 1, _) => format!("the recipe in {}", one.display()),
            ([one], 0, 1) => one.display().to_string(),
            (_, _, n) => format!("{n} runs"),
        };
        say!("{} shows {shown}; Ctrl-C ends it", server.url())?;
        server.run(viewer.routes());
        Ok(())
    }
}
