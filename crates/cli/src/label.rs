//! `koan label`

use std::{path::PathBuf, sync::Arc};

use anyhow::ensure;
use koan_data::DataFiles;
use koan_view::{
    Server,
    label::{Labelling, Sharing, Wanted, derive::Ties},
};

use crate::{interrupt, numbers::count};

/// Ask people which of two answers is better, or how good one is, on a page in the browser
///
/// Reads rows with `prompt` or `messages` and `completions` (as `koan generate --n 4` writes them), or with `prompt` and two answers: `chosen` and
/// `rejected`, or `a` and `b`. Names of models are hidden, the order of answers is random. Every vote is kept in PREFS.votes.jsonl before it is
/// acknowledged; PREFS.jsonl, the rows that `koan prefer` reads, is made of the votes by majority. Ctrl-C ends it; the same command goes on.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan generate --model models/smollm2 --input prompts.jsonl --n 2 --out answers.jsonl
  koan label answers.jsonl --out prefs.jsonl                       # then open the address that is printed
  koan label answers.jsonl --out prefs.jsonl --votes-per-pair 2    # two people on each pair
  koan label answers.jsonl --out prefs.jsonl --agreement           # how far they agree
  koan label answers.jsonl --out rated.jsonl --rate                # good or bad, one answer at a time: rows for KTO
  koan label answers.jsonl --out rated.jsonl --rate 5              # from 1 to 5
  koan prefer prefer.toml --set data=prefs.jsonl

docs/guide/labelling.md says how to label well, and what is in the files.")]
pub(crate) struct Label {
    /// The rows: files, or patterns such as 'a*.jsonl'
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where preference rows go; the votes are beside it, in NAME.votes.jsonl
    #[arg(long, value_name = "PREFS")]
    out: PathBuf,
    /// Rate single answers instead: good or bad, or on a scale of N points (3 to 9)
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u8).range(2..=9))]
    rate: Option<u8>,
    /// Pairs made of the completions of one row, at most [default: 1]
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    pairs_per_prompt: Option<usize>,
    /// People who vote on each pair, or answer
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count::<usize>)]
    votes_per_pair: usize,
    /// Share of votes for which a person is asked a second time, later: it says how far they agree with themselves
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    repeat: f64,
    /// What becomes of ties: `drop`, or `keep` as rows of margin 0
    #[arg(long, default_value = "drop", value_parser = ties, value_name = "WHAT")]
    ties: Ties,
    /// Keys pairs and their order: same seed, same pairs [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Make PREFS.jsonl of the votes, and end
    #[arg(long, conflicts_with_all = ["agreement", "export_label_studio"])]
    derive: bool,
    /// Print how far people agree, and where they differ, and end
    #[arg(long, conflicts_with = "export_label_studio")]
    agreement: bool,
    /// Write answers and votes as Label Studio's JSON, and end
    #[arg(long, value_name = "FILE")]
    export_label_studio: Option<PathBuf>,
    /// Where to listen; all but this machine's own address lets whoever reaches it vote
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// At which port; 0: any that is free
    #[arg(long, default_value_t = 8384)]
    port: u16,
}

fn ties(word: &str) -> Result<Ties, String> {
    match word {
        "drop" => Ok(Ties::Drop),
        "keep" => Ok(Ties::Keep),
        _ => Err("use drop or keep".to_owned()),
    }
}

impl Label {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!((0.0..=1.0).contains(&self.repeat), "--repeat must be between 0 and 1");
        let files = DataFiles::from(self.files);
        let Self { rate, pairs_per_prompt, seed, votes_per_pair: votes_each, repeat, ties, out, .. } = self;
        let wanted = Wanted { rate, pairs_per_prompt, seed };
        if self.agreement {
            say!("{}", Labelling::read(&files, &out, wanted)?.agreement())?;
            return Ok(());
        }
        if let Some(path) = self.export_label_studio {
            let n = Labelling::read(&files, &out, wanted)?.export_label_studio(&path)?;
            say!("{n} votes written to {}", path.display())?;
            return Ok(());
        }
        let labelling =
            Arc::new(Labelling::open(&files, &out, wanted, Sharing { votes_each, repeat }, ties)?);
        let (left_out, progress) = (labelling.left_out(), labelling.progress());
        if left_out.alike > 0 {
            note!("{} rows are left out: their answers are all alike", left_out.alike);
        }
        if left_out.repeated > 0 {
            note!("{} are left out: an earlier row has the same texts", left_out.repeated);
        }
        if progress.elsewhere > 0 {
            note!(
                "{} votes are on answers that the rows do not have; they are kept, and nothing is derived of them",
                progress.elsewhere
            );
        }
        let derived = if self.derive {
            labelling.derive()?
        } else {
            let server = Server::bind(&self.host, self.port)?;
            let what = if labelling.settings().rate.is_some() { "answers" } else { "pairs" };
            say!(
                "{} asks about {} {what}, {} of {} votes are there; Ctrl-C ends it, and the same command goes on",
                server.url(),
                progress.items,
                progress.votes,
                progress.wanted
            )?;
            let stop = interrupt::stop_on_signal("the rows are being written");
            labelling.serve(server, &stop)?
        };
        let both_bad = if derived.both_bad > 0 {
            format!(", {} of two bad answers", derived.both_bad)
        } else {
            String::new()
        };
        say!(
            "{}: {} rows; {} without a majority{both_bad}, {} without a vote",
            out.display(),
            derived.rows,
            derived.ties,
            derived.unvoted
        )?;
        Ok(())
    }
}
