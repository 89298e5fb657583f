//! Recipes: stages joined by names, so that one makes what the next one reads.
//!
//! - [`Recipe`], [`Step`], [`Kind`]: what a recipe's file says, with every name resolved,
//! - [`Bundled`]: recipes that come within the program; [`Changes`]: what the command line changes of one,
//! - [`run`]: its steps one after the other, each made once; [`Perform`]: how a step is made, which is whoever runs it to say,
//! - [`RecipeDir`], [`StepState`]: what is made, of what, and how far it is,
//! - [`Standing`]: whether a step must be made, and why,
//! - [`cost`]: what steps cost, and the paper's,
//! - [`trace`]: where a row comes from,
//! - [`rows`]: the steps that only choose rows: filter, mix, split,
//! - [`card`](mod@card): a model card of what is recorded,
//! - `world`, `vote`, `report`: a small world of questions, votes of its people, and what models come to in it.
#![forbid(unsafe_code)]

mod bundled;
pub mod card;
mod changes;
pub mod cost;
mod directory;
mod error;
mod figures;
mod inputs;
mod kind;
mod own;
mod recipe;
mod report;
pub mod rows;
mod run;
mod standing;
mod trace;
mod vote;
mod world;

pub use bundled::{BUNDLED, Bundled};
pub use changes::Changes;
pub use cost::{Peak, Rates, StepCost};
pub use directory::{MadeOf, Output, RecipeDir, State, StepState};
pub use error::RecipeError;
pub use kind::{Kind, Offer};
pub use own::OwnError;
pub use recipe::{Input, Recipe, Source, Step};
pub use report::demo_in_words;
pub use run::{Ended, Event, Job, Outcome, Perform, Selection, check, run};
pub use standing::{Standing, standings};
pub use trace::{Trace, trace};
pub use world::fresh_model;
