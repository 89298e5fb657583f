//! `koan data decontaminate`

use std::{num::NonZeroUsize, path::PathBuf, time::Instant};

use koan_data::decontaminate::{Decontamination, MAX_LISTED, NGRAM, Report, SHORT};
use koan_files::replace;

use super::TOLD_EVERY;

/// Drop rows that hold a part of a test
///
/// A row goes if one of its texts shares as many words in a row as --ngram says with an item of a test, or holds an item of 3 or
/// more words whole. Digits and operators are words; LaTeX and plain notation of a formula are the same; a Han character is a
/// word. Paraphrases and translations pass.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan data decontaminate train.jsonl --against held-out.jsonl --out clean.jsonl --report removed.json
  koan data decontaminate 'pages-*.jsonl.gz' --against gsm8k-test.jsonl math-test.parquet --segments --out pages.jsonl")]
pub(crate) struct DecontaminateArgs {
    /// The data, or patterns of files: problems, SFT, preference or text rows
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The tests: files whose items must not be in the data
    #[arg(long, required = true, num_args = 1.., value_name = "TEST")]
    against: Vec<PathBuf>,
    /// Where the other rows go, JSON Lines, whole or not at all
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What was removed, and for which test item, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Words in a row that make a match
    #[arg(long, default_value_t = NGRAM, value_name = "N", value_parser = ngram)]
    ngram: usize,
    /// Compare the texts of this field instead of the usual ones. Repeatable
    #[arg(long, value_name = "NAME")]
    field: Vec<String>,
    /// Cut the lines that match out of rows with `text`, and keep the rest
    #[arg(long)]
    segments: bool,
    /// How many threads; 0: one for each core
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

/// The longest window that is allowed; longer ones match nothing but whole texts.
const MAX_NGRAM: usize = 100;

fn ngram(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (SHORT + 1..=MAX_NGRAM).contains(&n) => Ok(n),
        _ => Err(format!("use a number from {} to {MAX_NGRAM}", SHORT + 1)),
    }
}

impl DecontaminateArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let job = Decontamination {
            files: self.files.into(),
            against: self.against.into(),
            ngram: self.ngram,
            fields: self.field,
            segments: self.segments,
            threads: NonZeroUsize::new(self.threads).unwrap_or_else(cores),
        };
        let (start, mut told) = (Instant::now(), Instant::now());
        let report = job.run(&self.out, &mut |rows| {
            if told.elapsed() > TOLD_EVERY {
                told = Instant::now();
                note!("{rows} rows read, {:.0} s", start.elapsed().as_secs_f64());
            }
        })?;
        if let Some(path) = &self.report {
            replace(path, format!("{:#}\n", serde_json::to_value(&report)?).as_bytes())?;
        }
        let Report { rows, kept, removed, cut, bytes, .. } = report;
        for test in &report.against {
            let (path, items) = (test.file.path.display(), test.items);
            say!("{path}: {} of {items} items found, in {} rows", test.found, test.rows)?;
        }
        let lines = if cut > 0 { format!(", lines cut out of {cut}") } else { String::new() };
        let seconds = start.elapsed().as_secs_f64();
        say!(
            "{rows} rows, {:.1} MB in {seconds:.1} s: {removed} dropped{lines}, {kept} in {}",
            bytes as f64 / 1e6,
            self.out.display()
        )?;
        if removed + cut > MAX_LISTED && self.report.is_some() {
            note!("the report lists the first {MAX_LISTED} of them");
        }
        Ok(())
    }
}
