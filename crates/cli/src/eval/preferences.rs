//! `koan eval --reward-model`: how well a reward model agrees with preferences, or with labels.

use std::{fmt, path::PathBuf, sync::atomic::Ordering, time::Instant};

use anyhow::{bail, ensure};
use koan_backend::Backend;
use koan_data::{DataFiles, Message, read_preferences, read_rated, rows};
use koan_eval::{Interval, LabelReport, PreferenceReport, ScoredLabel, ScoredPair, Share};
use koan_files::hash_files;
use koan_infer::{ScoredText, Scorer};
use serde_json::{Map, Value, json};

use crate::{device::Running, interrupt::stop_on_signal, output::Output, progress::Progress};

/// Texts that are scored between two looks at the clock.
const SCORED_TOGETHER: usize = 256;

/// A measurement of a reward model.
pub(super) struct Measured {
    pub(super) reward_model: PathBuf,
    pub(super) data: DataFiles,
    pub(super) max_tokens: usize,
    pub(super) out: Option<PathBuf>,
}

/// A row's conversation, its replies, and where it stands in the file, from 1.
struct Row<T> {
    number: usize,
    prompt: Vec<Message>,
    replies: Vec<Message>,
    about: T,
}

/// Margin and category of a pair.
type AboutPair = (Option<f64>, Option<String>);

impl Measured {
    pub(super) fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        self.out.as_deref().map_or(Ok(()), Output::check)?;
        let labelled = has_labels(&self.data)?;
        let (pairs, rated) = if labelled {
            (Vec::new(), read_rated(&self.data)?)
        } else {
            (read_preferences(&self.data)?, Vec::new())
        };
        let scorer = Scorer::load(b, &self.reward_model, self.max_tokens)?;
        let sha256 = hash_files(&self.reward_model, "safetensors")?;
        let start = Instant::now();
        let (report, said, counts) = if labelled {
            let rows = rated.into_iter().zip(1..).map(|(row, number)| Row {
                number,
                prompt: row.prompt,
                replies: vec![row.completion],
                about: (row.good, row.category),
            });
            let (scored, counts) = score(&scorer, rows.collect())?;
            let row = |(scores, tokens, (good, category)): (Vec<f64>, Vec<usize>, (bool, Option<String>))| {
                ScoredLabel { score: scores[0], good, tokens: tokens[0], category }
            };
            let report = LabelReport::of(&scored.into_iter().map(row).collect::<Vec<_>>());
            (serde_json::to_value(&report)?, Labels(&report).to_string(), counts)
        } else {
            let rows = pairs.into_iter().zip(1..).map(|(pair, number)| Row {
                number,
                prompt: pair.prompt,
                replies: vec![pair.chosen, pair.rejected],
                about: (pair.margin, pair.category),
            });
            let (scored, counts) = score(&scorer, rows.collect())?;
            let pair = |(scores, tokens, (margin, category)): (Vec<f64>, Vec<usize>, AboutPair)| ScoredPair {
                chosen: scores[0],
                rejected: scores[1],
                chosen_tokens: tokens[0],
                rejected_tokens: tokens[1],
                margin,
                category,
            };
            let report = PreferenceReport::of(&scored.into_iter().map(pair).collect::<Vec<_>>());
            (serde_json::to_value(&report)?, Pairs(&report).to_string(), counts)
        };
        let seconds = start.elapsed().as_secs_f64();
        let Counts { tokens, left_out, why } = counts;
        if let Some(path) = &self.out {
            let mut whole = json!({
                "reward_model": self.reward_model, "reward_model_sha256": sha256, "data": self.data,
                "data_sha256": self.data.hash()?, "left_out": left_out, "why_left_out": why,
            });
            if let (Value::Object(whole), Value::Object(report)) = (&mut whole, report) {
                whole.extend(report);
                whole.insert("tokens".to_owned(), tokens.into());
                whole.insert("device".to_owned(), running.to_string().into());
            }
            let mut out = Output::open(Some(path))?;
            out.line(&whole)?;
            out.finish()?;
        }
        if let Some(why) = why {
            note!("{left_out} rows are left out: {why}");
        }
        let rate = tokens as f64 / seconds;
        Ok(say!("{said}{tokens} tokens in {seconds:.1} s, {rate:.0} tokens/s ({running})")?)
    }
}

/// Whether the first row of `files` has a label, and so no partner.
fn has_labels(files: &DataFiles) -> anyhow::Result<bool> {
    let Some(first) = rows::all(files)?.next() else { return Ok(false) };
    let Ok((_, Ok(bytes))) = first else { return Ok(false) }; // the reader of pairs says what is wrong
    let row: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(row.contains_key("label") && !row.contains_key("chosen"))
}

/// Tokens scored, and rows that were not.
struct Counts {
    tokens: usize,
    left_out: usize,
    why: Option<String>,
}

type Scored<T> = (Vec<f64>, Vec<usize>, T);

/// Scores and tokens of the replies of each row that the model reads.
fn score<B: Backend, T>(scorer: &Scorer<B>, rows: Vec<Row<T>>) -> anyhow::Result<(Vec<Scored<T>>, Counts)> {
    let (mut texts, mut read) = (Vec::new(), Vec::new());
    let mut counts = Counts { tokens: 0, left_out: 0, why: None };
    for Row { number, prompt, replies, about } in rows {
        let encoded: Result<Vec<ScoredText>, String> =
            replies.iter().map(|reply| scorer.encode(&prompt, reply)).collect();
        match encoded {
            Ok(encoded) => {
                read.push((encoded.iter().map(|text| text.reply.len()).collect::<Vec<_>>(), about));
                texts.extend(encoded);
            }
            Err(reason) => {
                counts.left_out += 1;
                counts.why.get_or_insert_with(|| format!("of row {number}, {reason}"));
            }
        }
    }
    if let (Some(why), true) = (&counts.why, read.is_empty()) {
        bail!("no row can be scored: {why}");
    }
    let stop = stop_on_signal("giving up: nothing will be written");
    let mut progress = Progress::new("texts", texts.len());
    let mut scores = Vec::with_capacity(texts.len());
    for some in texts.chunks(SCORED_TOGETHER) {
        ensure!(!stop.load(Ordering::Relaxed), "stopped: nothing was written");
        scores.extend(scorer.scores(some)?);
        progress.set(scores.len(), "");
    }
    progress.finish();
    ensure!(scores.iter().all(|score| score.is_finite()), "a score is not finite: the model is damaged");
    counts.tokens = texts.iter().map(|text| text.prompt.len() + text.reply.len()).sum();
    let mut scores = scores.into_iter();
    let scored = read.into_iter().map(|(tokens, about)| {
        let own = scores.by_ref().take(tokens.len()).collect();
        (own, tokens, about)
    });
    Ok((scored.collect(), counts))
}

/// A share with its interval, in words.
struct Percent<'a>(&'a Interval);

impl fmt::Display for Percent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { accuracy, low, high } = self.0;
        write!(f, "{:5.1}%  ({:.1} to {:.1})", 100.0 * accuracy, 100.0 * low, 100.0 * high)
    }
}

/// A line of a table: the name at most 24 characters.
fn row(f: &mut fmt::Formatter<'_>, name: &str, n: usize, share: &Interval) -> fmt::Result {
    let name: String = name.chars().take(24).collect();
    writeln!(f, "{name:24} {n:>7}  {}", Percent(share))
}

struct Pairs<'a>(&'a PreferenceReport);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        writeln!(f, "{:24} {:>7}   right  (95% interval)", "", "pairs")?;
        row(f, "all", r.pairs, &r.pairwise_accuracy)?;
        let Share { pairs, pairwise_accuracy } = &r.where_chosen_is_shorter;
        row(f, "the chosen is shorter", *pairs, pairwise_accuracy)?;
        for (name, share) in &r.by_category {
            row(f, name, share.pairs, &share.pairwise_accuracy)?;
        }
        for bin in &r.by_margin {
            let name = format!("margin {} to {}", bin.from, bin.to);
            row(f, &name, bin.share.pairs, &bin.share.pairwise_accuracy)?;
        }
        if r.ties > 0 {
            writeln!(f, "{} pairs have equal scores, and count as wrong", r.ties)?;
        }
        if let Some(longer) = r.longer_is_chosen {
            writeln!(f, "the longer reply is the chosen one in {:.1}% of the pairs", 100.0 * longer)?;
        }
        if let Some(correlation) = r.length_correlation {
            writeln!(f, "correlation of scores with length {correlation:+.2}")?;
        }
        if let Some(error) = r.expected_calibration_error {
            writeln!(f, "expected calibration error {error:.3}")?;
        }
        writeln!(f, "scores {:.3} on average, deviation {:.3}", r.score_mean, r.score_std)
    }
}

struct Labels<'a>(&'a LabelReport);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        writeln!(f, "{:24} {:>7}   right  (95% interval)", "", "rows")?;
        row(f, "all", r.rows, &r.accuracy)?;
        for (name, share) in &r.by_category {
            row(f, name, share.rows, &share.accuracy)?;
        }
        match r.auc {
            Some(auc) => {
                writeln!(f, "{} of {} are good; area under the curve (AUC) {auc:.3}", r.good, r.rows)?;
            }
            None => writeln!(f, "{} of {} are good: with one kind of label there is no AUC", r.good, r.rows)?,
        }
        if let Some(correlation) = r.length_correlation {
            writeln!(f, "correlation of scores with length {correlation:+.2}")?;
        }
        writeln!(f, "scores {:.3} on average, deviation {:.3}", r.score_mean, r.score_std)
    }
}
