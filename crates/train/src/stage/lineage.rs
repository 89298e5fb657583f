//! What a run was made from, each input by hash, and whose run made that: `lineage.json`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use koan_data::DataFiles;
use koan_files::{FilesError, hash_file, hash_files, sha256};
use serde::{Deserialize, Serialize};

use super::{config::StageConfig, error::StageError};
use crate::cost::EnergySource;

/// The file's name.
const FILE: &str = "lineage.json";
/// What says how conversations become tokens, beside tokenizer.json.
const OF_TEMPLATE: [&str; 5] = [
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
];
/// What says how tokens are computed, and which end a completion.
const OF_CONFIG: [&str; 2] = ["config.json", "generation_config.json"];

/// Something that a run reads.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// What it is to the run: `model`, `tokenizer`, `data`, `held-out data`, …
    pub role: &'static str,
    /// The file or directory; of a server, its address.
    pub path: PathBuf,
    /// Of a server, the name by which it knows the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// SHA-256 of the file, of a model's weights, or of a list of files with the SHA-256 of each; of a server, of its address and the
    /// model's name in lines, since its weights are not seen.
    pub sha256: String,
    /// The run that made it, if it lies in the directory of one that was finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<Origin>,
    /// Whether the run's course depends on it, so that a run does not go on with another.
    #[serde(skip)]
    pub shapes_course: bool,
}

/// The run that made an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its directory.
    pub run: PathBuf,
    /// SHA-256 of the weights that it ended with, if it trained a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// SHA-256 of the data that it made, if it made some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
}

impl Input {
    /// What a stage of this config reads: its model with the model's tokenizer, chat template and config, its data, and `held_out` data, by which it is
    /// only measured: a run may go on with others.
    ///
    /// # Errors
    /// If one can't be read.
    pub(crate) fn all(config: &StageConfig, held_out: Option<&DataFiles>) -> Result<Vec<Self>, StageError> {
        let place = config.start()?;
        let texts = if config.adapter.is_some() { place.model() } else { place.texts() };
        let mut all = vec![
            Self::model("model", &config.model)?,
            Self::file("tokenizer", &texts.join("tokenizer.json"))?,
            Self::files("chat template and special tokens", texts, &OF_TEMPLATE)?,
            Self::files("model's config", place.model(), &OF_CONFIG)?,
        ];
        if place.model() != config.model {
            all.push(Self::model("base model", place.model())?);
        }
        if let Some(from) = config.adapter.as_ref().and_then(|adapter| adapter.from.as_deref()) {
            all.push(Self::model("adapter", from)?);
        }
        all.extend(Self::data(config)?);
        for path in held_out.map_or(Ok(Vec::new()), DataFiles::paths)? {
            all.push(Self { shapes_course: false, ..Self::file("held-out data", &path)? });
        }
        Ok(all)
    }

    /// The files of data of a stage of this config.
    ///
    /// # Errors
    /// If one can't be read.
    pub(crate) fn data(config: &StageConfig) -> Result<Vec<Self>, StageError> {
        let all = config.data.paths()?;
        Ok(all.iter().map(|path| Self::file("data", path)).collect::<Result<_, _>>()?)
    }

    /// A file that shapes the run's course.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn file(role: &'static str, path: &Path) -> Result<Self, FilesError> {
        Ok(Self::new(role, path, hash_file(path)?))
    }

    /// The hash of each role's inputs that shape the run's course: of several (files of data), that of their hashes, joined by line
    /// ends in their order.
    pub(super) fn hashes(inputs: &[Self]) -> BTreeMap<String, String> {
        let mut hashes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for input in inputs.iter().filter(|input| input.shapes_course) {
            hashes.entry(input.role.to_owned()).or_default().push(&input.sha256);
        }
        let joined = |hashes: Vec<&str>| match hashes[..] {
            [one] => one.to_owned(),
            _ => sha256(hashes.join("\n")),
        };
        hashes.into_iter().map(|(role, hashes)| (role, joined(hashes))).collect()
    }

    /// Those of the files `names` of directory `dir` that are there, which together shape the run's course.
    fn files(role: &'static str, dir: &Path, names: &[&str]) -> Result<Self, FilesError> {
        let mut list = String::new();
        for path in names.iter().map(|name| dir.join(name)).filter(|path| path.exists()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            list.extend([&hash_file(&path)?, "  ", &name, "\n"]);
        }
        Ok(Self::new(role, dir, sha256(list)))
    }

    /// A model that shapes the run's course: its weights.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn model(role: &'static str, dir: &Path) -> Result<Self, FilesError> {
        Ok(Self::new(role, dir, hash_files(dir, "safetensors")?))
    }

    /// The server at `url` that writes completions as `model`, which shapes the run's course.
    pub(crate) fn server(url: &str, model: &str) -> Self {
        let sha256 = sha256(format!("{url}\n{model}\n"));
        let (path, model) = (PathBuf::from(url), Some(model.to_owned()));
        Self { role: "server", path, model, sha256, made_by: None, shapes_course: true }
    }

    fn new(role: &'static str, path: &Path, sha256: String) -> Self {
        Self { role, path: path.into(), model: None, sha256, made_by: Origin::of(path), shapes_course: true }
    }
}

impl Origin {
    /// The finished run in whose directory `path` lies.
    fn of(path: &Path) -> Option<Self> {
        #[derive(Deserialize)]
        struct Made {
            weights_sha256: Option<String>,
            data_sha256: Option<String>,
        }
        path.ancestors().skip(1).find_map(|run| {
            let lineage = koan_files::read_text(&run.join(FILE)).ok()?;
            let Made { weights_sha256, data_sha256 } = serde_json::from_str(&lineage).ok()?;
            let has_made = weights_sha256.is_some() || data_sha256.is_some();
            has_made.then(|| Self { run: run.into(), weights_sha256, data_sha256 })
        })
    }
}

/// What a run made.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Made {
    /// A model.
    Weights {
        /// SHA-256 of the final model.safetensors.
        weights_sha256: String,
    },
    /// A file of data.
    Data {
        /// Its SHA-256.
        data_sha256: String,
        /// What was kept, and what was left out and why.
        counts: serde_json::Value,
    },
}

/// What a model or a file of data was made from, and what it took.
#[derive(Serialize)]
pub(super) struct Lineage<'a> {
    /// Which stage made it.
    pub(super) stage: &'static str,
    /// What it was made from.
    pub(super) inputs: &'a [Input],
    /// SHA-256 of the settings that shaped the run.
    pub(super) config_sha256: &'a str,
    #[serde(flatten)]
    pub(super) made: Made,
    /// Version of this program.
    pub(super) koan_version: &'static str,
    /// What it was computed on: of a GPU its name, its driver and what compiled its kernels.
    pub(super) device: String,
    /// Steps made.
    pub(super) steps: u64,
    /// Tokens learned from, or sampled.
    pub(super) tokens: u64,
    /// Seconds that the steps took.
    pub(super) seconds: f64,
    /// As in [`Cost`](crate::cost::Cost): what all processes of the run cost, with steps that a kill undid.
    pub(super) tokens_drawn: u64,
    pub(super) tokens_trained: u64,
    pub(super) flops: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) energy_wh: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) energy_source: Option<EnergySource>,
}

impl Lineage<'_> {
    /// Writes it into the run's directory.
    pub(super) fn write(&self, run: &Path) -> Result<(), FilesError> {
        let text = serde_json::to_string_pretty(self).expect("a lineage of plain values") + "\n";
        koan_files::replace(&run.join(FILE), text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn several_files_of_one_role_have_one_hash_in_their_order() {
        let input = |role, sha256: &str| Input::new(role, Path::new("f"), sha256.to_owned());
        let hashes = |inputs: &[Input]| Input::hashes(inputs).into_values().collect::<Vec<_>>();
        let held_out = Input { shapes_course: false, ..input("held-out data", "c") };
        let (a, b) = (input("data", "a"), input("data", "b"));
        assert_eq!(hashes(&[a.clone(), held_out]), ["a"]);
        assert_eq!(hashes(&[a.clone(), b.clone()]), [sha256("a\nb")]);
        assert_ne!(hashes(&[a.clone(), b.clone()]), hashes(&[b, a]));
    }

    #[test]
    fn an_input_knows_the_run_that_made_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        fs::create_dir_all(run.join("rollouts")).expect("made");
        let file = run.join("rollouts/step-000001.jsonl");
        fs::write(&file, "{}\n").expect("written");
        let input = || Input::file("data", &file).expect("an input");
        assert_eq!(input().made_by, None, "a run that has not ended has made nothing");
        fs::write(run.join(FILE), r#"{"stage": "rl", "weights_sha256": "abc", "steps": 3}"#)
            .expect("written");
        assert_eq!(
            input().made_by,
            Some(Origin { run: run.clone(), weights_sha256: Some("abc".into()), data_sha256: None })
        );
        fs::write(run.join(FILE), "{\"weights").expect("written");
        assert_eq!(input().made_by, None);
        let sha256 = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
        assert_eq!(input().sha256, sha256, "of `{{}}` and a line's end");
    }
}
