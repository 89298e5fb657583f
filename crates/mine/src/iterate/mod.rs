//! The loop of DeepSeekMath (arXiv:2402.03300, section 2.1): a classifier finds pages, their domains show where more are, and those
//! pages teach the next classifier.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | the config |
//! | `train` | a classifier from positives and negatives, once |
//! | `pool` | the documents that are chosen from |
//! | `scores` | what a round's classifier says of each document; the cut |
//! | `domains` | which domains are mathematics, and which prefixes of their URLs |
//! | `list` | the list of domains that a person chooses from: TSV, a page, and back |
//! | `report` | what each round kept, side by side |
//!
//! A round: (1) documents are drawn, positives from the seed and from what earlier rounds' prefixes hold, negatives from the pool
//! without the domains that the last round judged mathematics; (2) a classifier is trained; (3) it scores all documents; (4) the
//! best are kept; (5) domains of which enough was kept are listed. Prefixes are chosen from the list, and of the documents under
//! them those that were not kept are positives of the next round. The loop ends when a round keeps hardly anything new.
//!
//! Each step writes a file beside its place and renames it, and depends on files and settings alone: a run that was killed goes on
//! where it was, to the same bytes.

mod domains;
mod list;
mod pool;
mod report;
mod scores;
mod settings;
mod train;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use koan_data::rows::Rows;
use koan_files::{FilesError, jsonl, replace};
use rayon::prelude::*;

use crate::{
    MineError,
    classifier::{self, Classifier, MATHS, Model, OTHER, TrainingSet},
    config::setting,
};
use domains::Domains;
use pool::{Place, Pool};
use scores::Score;
use train::{each_positive, held_out};

pub use list::{Chosen, List};
pub use report::{Report, Round, table};
pub use settings::{Iterate, Learn, Train};
pub use train::{Trained, train};

/// The loop of a config.
#[derive(Clone, Debug)]
pub struct Iteration {
    learn: Learn,
    iterate: Iterate,
}

/// How far the loop came.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// To its end: what each round did, and the folder of the documents that were kept.
    Finished(Report, PathBuf),
    /// A person is to choose prefixes from the list of this round.
    Choose(Report, List),
}

impl Iteration {
    /// Of a config that has rounds.
    ///
    /// # Errors
    /// One that has none, or a setting out of range.
    pub fn new(learn: Learn) -> Result<Self, MineError> {
        learn.check()?;
        let Some(iterate) = learn.iterate.clone() else {
            return Err(setting(
                "iterate",
                "is not there; add the table [iterate] with `documents`, what is chosen from",
            ));
        };
        Ok(Self { learn, iterate })
    }

    /// Goes on where the loop is, to its end or to the next choice; with `auto`, prefixes are chosen by rules. `say` is told what is
    /// done next.
    ///
    /// # Errors
    /// Settings out of range, files that can't be read or written, or a folder in which another loop was begun.
    pub fn run(&self, auto: bool, say: &mut dyn FnMut(&str)) -> Result<Outcome, MineError> {
        fs::create_dir_all(&self.learn.run_dir).map_err(FilesError::io("create", &self.learn.run_dir))?;
        let pool = Pool::open(&self.iterate.documents)?;
        self.claim(&pool)?;
        let mut report = Report::default();
        loop {
            let number = report.rounds.len() + 1;
            let round = self.round(&pool, number, &report, say)?;
            report.rounds.push(round);
            if self.is_over(&report) {
                break;
            }
            let chosen = self.round_folder(number).join(list::CHOSEN);
            if !chosen.exists() {
                let list = List::open(&self.round_folder(number), number)?;
                if !auto {
                    report.write(&self.learn.run_dir)?;
                    return Ok(Outcome::Choose(report, list));
                }
                list.accept(&list.path)?;
            }
        }
        report.write(&self.learn.run_dir)?;
        let corpus = self.learn.run_dir.join("corpus");
        self.write(&pool, &report, &corpus, say)?;
        Ok(Outcome::Finished(report, corpus))
    }

    /// The list of the last round that has one.
    ///
    /// # Errors
    /// If there is none yet.
    pub fn list(&self) -> Result<List, MineError> {
        let rounds = (1..=self.iterate.rounds).rev();
        let number = rounds.into_iter().find(|n| self.round_folder(*n).join(list::DOMAINS).exists());
        let Some(number) = number else {
            let what = format!(
                "`{}` has no list of domains yet; `koan mine iterate` makes it",
                self.learn.run_dir.display()
            );
            return Err(MineError::Stage { what });
        };
        List::open(&self.round_folder(number), number)
    }

    fn round_folder(&self, number: usize) -> PathBuf {
        self.learn.run_dir.join(format!("round-{number}"))
    }

    /// Notes what the folder is for, or finds that it is for another loop.
    fn claim(&self, pool: &Pool) -> Result<(), MineError> {
        let path = self.learn.run_dir.join("loop.json");
        let seed = self.learn.train.positives.hash()?;
        let negatives = self.learn.train.negatives.as_ref().map(koan_data::DataFiles::hash).transpose()?;
        let own = serde_json::json!({"settings": {"train": self.learn.train, "model": self.learn.model, "iterate": self.iterate}, "positives": seed, "negatives": negatives, "documents": pool.hashes()?});
        let own = serde_json::to_string_pretty(&own).expect("settings are JSON") + "\n";
        match fs::read_to_string(&path) {
            Ok(there) if there == own => Ok(()),
            Ok(_) => {
                let what = format!(
                    "`{}` holds a loop over other documents or with other settings; restore them, or take another `run_dir`",
                    self.learn.run_dir.display()
                );
                Err(MineError::Stage { what })
            }
            Err(_) => Ok(replace(&path, own.as_bytes())?),
        }
    }

    /// Whether the last round ends the loop.
    fn is_over(&self, report: &Report) -> bool {
        let number = report.rounds.len();
        let settled = report.rounds.last().is_some_and(|round| round.new_share < self.iterate.new_share);
        number >= self.iterate.rounds || number > 1 && settled
    }

    fn round(
        &self,
        pool: &Pool,
        number: usize,
        report: &Report,
        say: &mut dyn FnMut(&str),
    ) -> Result<Round, MineError> {
        let folder = self.round_folder(number);
        if let Some(round) = Round::read(&folder)? {
            return Ok(round);
        }
        fs::create_dir_all(&folder).map_err(FilesError::io("create", &folder))?;
        let model = folder.join("classifier.bin");
        let counts = folder.join("training-set.json");
        if !model.exists() {
            say(&format!("round {number}: drawing the training set"));
            let lines = folder.join("training-set.txt");
            let drawn = self.draw(pool, number, report, &folder, &lines)?;
            jsonl::write(&counts, [&drawn])?;
            say(&format!("round {number}: training on {} and {} documents", drawn[MATHS], drawn[OTHER]));
            Model::train(&lines, &self.learn.model)?.save(&model)?;
            fs::remove_file(&lines).map_err(FilesError::io("remove", &lines))?;
        }
        say(&format!("round {number}: scoring"));
        let classifier = Classifier::load(&model)?;
        let scores = scores::folder(&folder)?;
        pool.files
            .par_iter()
            .enumerate()
            .try_for_each(|(i, path)| scores::score(&classifier, path, &scores, i))?;
        let seed = held_out(&self.learn, &classifier)?;
        let least = self.iterate.min_score.unwrap_or_else(|| classifier::cut(&seed));
        classifier::write_cut(&model, least)?;
        let cut = scores::cut(&scores, pool, &self.iterate, least)?;
        say(&format!("round {number}: counting domains"));
        let before = report
            .rounds
            .last()
            .map(|round| (scores::folder_name(&self.round_folder(number - 1)), round.cut));
        let kept =
            scores::compare(&scores, cut, before.as_ref().map(|(path, cut)| (path.as_path(), *cut)), pool)?;
        let domains = Domains::judge(&scores, cut, pool, &self.iterate)?;
        if domains.unlisted() > 0 {
            say(&format!(
                "round {number}: {} of {} domains, those with the fewest kept pages, are too many for the list",
                domains.unlisted(),
                domains.len()
            ));
        }
        let prefixes = domains.prefixes(&scores, cut, pool, &self.iterate)?;
        list::write(&folder, number, &prefixes, &self.iterate)?;
        let drawn: BTreeMap<String, usize> = pool::read_json(&counts)?;
        let round = Round {
            round: number,
            positives: drawn[MATHS],
            from_prefixes: drawn["from_prefixes"],
            negatives: drawn[OTHER],
            cut,
            documents: kept.scored,
            kept: kept.documents,
            kept_tokens: kept.bytes / scores::BYTES_A_TOKEN,
            new: kept.new,
            new_share: kept.new as f64 / kept.documents.max(1) as f64,
            seed_recall: seed.iter().filter(|score| **score >= cut).count() as f64 / seed.len().max(1) as f64,
            domains: domains.len(),
            classifier: koan_files::hash_file(&model)?,
        };
        round.write(&folder)?;
        Ok(round)
    }

    /// Draws documents to learn from: how many of each label there are, and how many come from prefixes.
    fn draw(
        &self,
        pool: &Pool,
        number: usize,
        report: &Report,
        folder: &Path,
        lines: &Path,
    ) -> Result<BTreeMap<String, usize>, MineError> {
        let mut set = TrainingSet::new(folder, self.learn.train.max_documents, self.learn.model.seed)?;
        each_positive(&self.learn, |text, held_out| if held_out { Ok(()) } else { set.add(MATHS, text) })?;
        if let Some(negatives) = &self.learn.train.negatives {
            pool::each_text(negatives, |text| set.add(OTHER, text))?;
        }
        let mut from_prefixes = 0;
        // What earlier rounds left under their prefixes, by those rounds' cuts; and what the last one judged mathematics.
        let mut earlier = Vec::new();
        for before in &report.rounds {
            let from = self.round_folder(before.round);
            earlier.push((scores::folder_name(&from), before.cut, Chosen::read(&from, before.round)?));
        }
        let domains = match earlier.last() {
            Some((scores, cut, _)) => Domains::judge(scores, *cut, pool, &self.iterate)?,
            None => Domains::default(),
        };
        let needs_pool = number > 1 || self.learn.train.negatives.is_none();
        for (shard, path) in pool.files.iter().enumerate().take_while(|_| needs_pool) {
            let mut scored = earlier
                .iter()
                .map(|(folder, ..)| scores::read(folder, shard))
                .collect::<Result<Vec<_>, _>>()?;
            for row in Rows::open(path)? {
                let place: Place = pool::parse(row?)?;
                let mut is_positive = false;
                for ((_, cut, chosen), scores) in earlier.iter().zip(&mut scored) {
                    let score: Score = scores.next_score()?;
                    is_positive |= score.share < *cut && chosen.holds(&place.url);
                }
                if is_positive {
                    from_prefixes += 1;
                    set.add(MATHS, &place.text)?;
                } else if self.learn.train.negatives.is_none() && !domains.hold(place.domain_hash()) {
                    set.add(OTHER, &place.text)?;
                }
            }
        }
        let mut drawn = set.finish(lines)?;
        for label in [MATHS, OTHER] {
            drawn.entry(label.to_owned()).or_default();
        }
        drawn.insert("from_prefixes".into(), from_prefixes);
        Ok(drawn)
    }

    /// Writes the documents that the last round kept, with their scores, a file for each of the pool's.
    fn write(
        &self,
        pool: &Pool,
        report: &Report,
        corpus: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), MineError> {
        say("writing the corpus");
        fs::create_dir_all(corpus).map_err(FilesError::io("create", corpus))?;
        let last = report.rounds.last().expect("a loop has a round");
        let scores = scores::folder_name(&self.round_folder(last.round));
        pool.files.par_iter().enumerate().try_for_each(|(shard, path)| {
            let out = corpus.join(format!("{shard:05}.jsonl.zst"));
            if out.exists() {
                Ok(())
            } else {
                pool::copy(path, &mut scores::read(&scores, shard)?, last.cut, &out)
            }
        })
    }
}

#[cfg(test)]
mod tests;
