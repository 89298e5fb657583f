//! A model card of what is recorded, as Hugging Face reads it: `README.md`.
//!
//! Every number comes from a record: `steps/NAME.json` of a recipe, `lineage.json` of a run, reports of `koan eval` that name the model by
//! its hash. A record that is not of what is there is refused; what is not recorded is said to be so.
//!
//! | module | holds |
//! |---|---|
//! | `records` | the steps or runs that made the model, each held to what the next was made from |
//! | `measures` | measurements, of the model and of those on the way |
//! | `front` | the metadata |
//! | `world` | what the model comes to in the world of its recipe, of its step `report` |
//! | `data`, `training`, `contamination`, `safety`, `cost`, `limits`, `reproduce` | a section each |
//! | `markdown`, `yaml` | texts that are not trusted, written so that they stay texts |

mod contamination;
mod cost;
mod data;
mod error;
mod front;
mod limits;
mod markdown;
mod measures;
mod records;
mod reproduce;
mod safety;
mod training;
mod world;
mod yaml;

use std::path::{Path, PathBuf};

use koan_files::sha256;
use koan_model::{Config, is_license_card};

pub use self::error::CardError;
use self::{
    front::{Base, is_repository},
    markdown::{code, hash, plain},
    records::{Kept, Records},
};

/// What begins the last line of a card, before the hash of what is above it.
const MARK: &str = "<!-- written by `koan model card`; SHA-256 of what is above: ";

/// Which model a card is about, and what else is known of it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The step that made it; none: the last that made a model.
    pub step: Option<String>,
    /// Reports of `koan eval` that measured it.
    pub evals: Vec<PathBuf>,
    /// The base model's name on the hub; none: where it was pulled from, else its directory's name.
    pub base_model: Option<String>,
}

/// A model card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The directory of the model.
    pub model: PathBuf,
    /// The card.
    pub text: String,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Card {
    /// The card of the model that was made in `path`: a recipe's directory, a step's or a run's, or the model's own.
    ///
    /// # Errors
    /// Where nothing is recorded, the step is not made, or what is there is not what is recorded; reports that are none, or of another
    /// model.
    pub fn of(path: &Path, about: &About) -> Result<Self, CardError> {
        if let Some(name) =
            about.base_model.as_ref().filter(|name| !(is_repository(name) && name.contains('/')))
        {
            return Err(CardError::BaseModel { name: name.clone() });
        }
        let records = Records::of(path, about.step.as_deref())?;
        let mut notes = Vec::new();
        let measures = measures::all(&records, &about.evals, &mut notes)?;
        let cleaned = contamination::all(&records)?;
        let data = data::all(&records);
        let base = front::base(&records, about.base_model.as_deref());
        let title = title(&records);
        let sections = [
            ("Data", data::section(&records, &data)),
            ("Training", training::section(&records)),
            ("Evaluation", measures::section(&measures, &records) + &world::section(&records)?),
            ("Contamination", contamination::section(&records, &cleaned, &measures)),
            ("Safety", safety::section(&measures)),
            ("Cost", cost::section(&records)),
            ("Limits", limits::section(&records, &data, &measures, &cleaned)),
            ("How to reproduce it", reproduce::section(&records)),
        ];
        let sections: String = sections.map(|(name, text)| format!("\n## {name}\n\n{text}")).concat();
        let text = format!(
            "{}\n# {}\n\n{}{sections}",
            front::matter(&title, &records, &base, &data, &measures),
            plain(&title),
            opening(&records, &base)
        );
        let text = format!("{text}\n{MARK}{} -->\n", sha256(&text));
        Ok(Self { model: records.model, text, notes })
    }

    /// Whether a card was written by [`Card::of`] and not changed since, or states the licence alone, as Koan's own do: so nothing is lost if
    /// another takes its place.
    pub fn is_ours(card: &str) -> bool {
        let own = card
            .rsplit_once(&format!("\n{MARK}"))
            .and_then(|(above, hash)| Some((above, hash.strip_suffix(" -->\n")?)));
        own.is_some_and(|(above, hash)| sha256(above) == hash) || is_license_card(card)
    }
}

/// The model's name: those of its directory and its step.
fn title(records: &Records) -> String {
    let step = &records.made().state.name;
    match &records.kept {
        Kept::Recipe { dir, .. } => format!("{}-{step}", records::name_of(dir)),
        Kept::Run { dir } => records::name_of(dir),
    }
}

/// What the model is, in two sentences.
fn opening(records: &Records, base: &Base) -> String {
    let what = if front::is_reward_model(&records.model) { "A reward model" } else { "A language model" };
    let size = match Config::load(&records.model) {
        _ if records.model.join("adapter_config.json").exists() => "An adapter (LoRA)".to_owned(),
        Ok(config) => {
            let parameters = config.parameters() as f64 / 1e6;
            format!(
                "{what} of the family {} with {parameters:.2} million parameters",
                plain(config.family.name())
            )
        }
        Err(_) => what.to_owned(),
    };
    let from = match base {
        Base::Fresh => "trained from random weights".to_owned(),
        Base::Unknown => "made from what is not recorded".to_owned(),
        Base::Given { path, sha256, name } => {
            let name = name.as_ref().map_or_else(String::new, |name| format!("{}, ", code(name)));
            format!("trained from {name}the model in {} (SHA-256 {})", code(path), hash(sha256))
        }
    };
    let how = match &records.kept {
        Kept::Recipe { file: Some(file), .. } => {
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            format!("by the step {} of the recipe {}", code(&records.made().state.name), code(&file))
        }
        Kept::Recipe { file: None, .. } => {
            format!("by the step {} of a recipe", code(&records.made().state.name))
        }
        Kept::Run { .. } => format!("by {}", code(&format!("koan {}", records.made().state.kind))),
    };
    format!("{size}, {from} {how}.\n")
}
