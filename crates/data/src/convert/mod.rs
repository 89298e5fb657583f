//! Published data sets made Koan's: the shape of a file is recognised by its fields and named, and what can't be carried over is
//! counted by reason, never lost in silence.
//!
//! # Adding a shape
//!
//! Write `src/convert/<shape>.rs` with a `const SHAPE: Shape`: its name, its data sets, how it is known by its fields, and what
//! becomes of a row. Add it to [`SHAPES`]. The program lists it from there.

mod apps;
mod chat;
mod code_contests;
mod codeforces;
mod countdown;
mod deepcoder;
mod error;
mod fields;
mod generated;
mod gsm8k;
mod helpsteer;
mod livecodebench;
mod math;
mod numina;
mod oasst;
mod openr1;
mod orz;
mod pickle;
mod plain;
mod preference;
mod python_tests;
mod questions;
mod repair;
mod report;
mod rlvr;
mod row;
mod tests_of;
mod verifiable;
mod verl;

pub use error::ConvertError;
pub use plain::Mapping;
pub use report::{Report, Skipped};
pub use row::Out;
pub use tests_of::{Limits, MAX_TEST_BYTES, MAX_TESTS};

use crate::error::DataError;
use crate::rows::{DataFiles, Rows};
use fields::Fields;
use koan_files::{NewFile, jsonl};
use report::Seen;
use row::{Made, Row, Skip};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Longest row of a published file, bytes: the tests of one problem of LiveCodeBench can have 100 MB.
pub const MAX_ROW_BYTES: usize = 512 << 20;

/// A shape of published rows.
pub struct Shape {
    /// What `--from` calls it.
    pub name: &'static str,
    /// Its data sets, and the fields by which it is known.
    pub about: &'static str,
    is: fn(&Fields) -> bool,
    make: fn(&Row) -> Made,
    /// What makes rows of several rows, if a row alone is not enough.
    start: Option<fn() -> Box<dyn Convert>>,
    /// It is chosen only where no other is: other shapes have its fields too.
    is_general: bool,
}

impl Shape {
    const MADE: Self = Self {
        name: "",
        about: "",
        is: |_| false,
        make: |_| Err("not of this shape".to_owned()),
        start: None,
        is_general: false,
    };
    const GENERAL: Self = Self { is_general: true, ..Self::MADE };
}

/// Makes rows of rows.
trait Convert {
    /// What becomes of a row; nothing, if that is not yet known.
    fn row(&mut self, row: &Row) -> Made;

    /// What is left at the end.
    fn end(&mut self) -> Vec<Result<Out, Skip>> {
        Vec::new()
    }
}

/// A shape that needs one row at a time.
struct Single(fn(&Row) -> Made);

impl Convert for Single {
    fn row(&mut self, row: &Row) -> Made {
        (self.0)(row)
    }
}

/// Rows as a mapping says.
struct Mapped<'a>(&'a Mapping);

impl Convert for Mapped<'_> {
    fn row(&mut self, row: &Row) -> Made {
        self.0.apply(row)
    }
}

/// Open-Reasoner-Zero's rows are lists.
const ORZ: Shape = Shape { name: orz::NAME, about: orz::ABOUT, ..Shape::MADE };

/// All shapes, those of one data set first.
pub const SHAPES: &[Shape] = &[
    gsm8k::SHAPE,
    math::SHAPE,
    math::NUMINA_COT,
    numina::SHAPE,
    openr1::SHAPE,
    openr1::SFT,
    verl::SHAPE,
    verl::PROCESSED,
    questions::BIG_MATH,
    questions::DEEPSCALER,
    questions::GYM,
    ORZ,
    countdown::SHAPE,
    verifiable::SHAPE,
    apps::SHAPE,
    apps::TACO,
    code_contests::SHAPE,
    codeforces::SHAPE,
    livecodebench::SHAPE,
    deepcoder::SHAPE,
    python_tests::MBPP,
    python_tests::HUMANEVAL,
    python_tests::KODCODE,
    rlvr::SHAPE,
    preference::SHAPE,
    preference::HH,
    helpsteer::TWO,
    helpsteer::TWO_PREFERENCE,
    helpsteer::THREE,
    oasst::TREES,
    oasst::TREES_SFT,
    oasst::MESSAGES,
    oasst::MESSAGES_SFT,
    generated::SHAPE,
    chat::SHAREGPT,
    chat::MESSAGES,
    chat::ALPACA,
    chat::COMPLETION,
    questions::SHAPE,
    plain::KOAN,
    plain::TEXT,
];

/// Files to convert, and how.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The files, of one shape.
    pub files: DataFiles,
    /// The shape's name, if it is not to be recognised.
    pub from: Option<String>,
    /// Which fields become which, instead of a shape.
    pub mapping: Option<Mapping>,
    /// How many tests of a problem are kept.
    pub limits: Limits,
}

impl Conversion {
    /// Writes what becomes of the files to `out`, whole or not at all; `progress` gets the number of rows that were read.
    ///
    /// # Errors
    /// Files that cannot be read, a shape that is unknown or not clear, nothing that can be carried over, and a file that
    /// cannot be written.
    pub fn run(&self, out: &Path, progress: &mut dyn FnMut(usize)) -> Result<Report, ConvertError> {
        let paths = self.files.paths()?;
        if let Some(path) = paths.iter().find(|path| is_same(path, out)) {
            return Err(ConvertError::Itself { path: path.clone() });
        }
        let shape = self.shape(&paths)?;
        let mut seen = Seen::default();
        loop {
            let mut report = Report::new(shape.map_or("map", |shape| shape.name));
            let mut file = NewFile::create(out).map_err(DataError::from)?;
            self.pass(&paths, shape, &mut seen, &mut report, progress, &mut |made| {
                jsonl::write_line(&mut file, made).map_err(|source| {
                    DataError::from(koan_files::FilesError::Io {
                        what: "write",
                        path: out.to_owned(),
                        source,
                    })
                })
            })?;
            if report.written == 0 {
                return Err(ConvertError::Nothing { report: Box::new(report) });
            }
            // A question that has another answer further on is left out altogether, and that is known only now.
            if !seen.next_pass() {
                file.finish().map_err(DataError::from)?;
                return Ok(report);
            }
        }
    }

    /// Converts every row.
    fn pass(
        &self,
        paths: &[PathBuf],
        shape: Option<&Shape>,
        seen: &mut Seen,
        report: &mut Report,
        progress: &mut dyn FnMut(usize),
        write: &mut dyn FnMut(&Out) -> Result<(), DataError>,
    ) -> Result<(), ConvertError> {
        for path in paths {
            let mut convert: Box<dyn Convert + '_> = match (&self.mapping, shape) {
                (Some(mapping), _) => Box::new(Mapped(mapping)),
                (None, Some(Shape { start: Some(start), .. })) => start(),
                (None, shape) => Box::new(Single(shape.map_or(Shape::MADE.make, |shape| shape.make))),
            };
            let mut last = None;
            for row in Rows::open_up_to(path, MAX_ROW_BYTES)? {
                let (place, json) = row?;
                report.read += 1;
                progress(report.read);
                let json = match json {
                    Ok(json) => json,
                    Err(error) => {
                        report.skip(format!("{error}"), &place, b"");
                        continue;
                    }
                };
                let repaired = repair::repaired(&json);
                report.repaired += usize::from(repaired.is_some());
                let json = repaired.unwrap_or(json);
                let made = match self.made(&json, shape, &mut *convert) {
                    Ok(made) => made,
                    Err(reason) => {
                        report.skip(reason, &place, &json);
                        continue;
                    }
                };
                for made in made {
                    report.add(made, seen, &place, &json, write)?;
                }
                last = Some(place);
            }
            for (left, place) in convert.end().into_iter().zip(std::iter::repeat(last)) {
                let Some(place) = place else { break };
                match left {
                    Ok(made) => report.add(made, seen, &place, b"", write)?,
                    Err(reason) => report.skip(reason, &place, b""),
                }
            }
        }
        Ok(())
    }

    fn made(&self, json: &[u8], shape: Option<&Shape>, convert: &mut dyn Convert) -> Made {
        if json.trim_ascii_start().starts_with(b"[") && shape.is_some_and(|shape| shape.name == orz::NAME) {
            let row: Value = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
            return orz::problem(&row);
        }
        match Row::new(json, self.limits) {
            Some(row) => convert.row(&row),
            None => match serde_json::from_slice::<Value>(json) {
                Ok(other) => Err(format!("the row is {}", crate::rows::type_of(&other))),
                Err(_) => Err("the row is not JSON".to_owned()),
            },
        }
    }

    /// The shape of the files; `None` with a mapping.
    fn shape(&self, paths: &[PathBuf]) -> Result<Option<&'static Shape>, ConvertError> {
        if self.mapping.is_some() {
            return Ok(None);
        }
        if let Some(name) = &self.from {
            return Ok(Some(by_name(name)?));
        }
        let mut found: Option<(&Shape, &Path)> = None;
        for path in paths {
            let shape = recognise(path)?;
            match found {
                Some((first, other)) if first.name != shape.name => {
                    return Err(ConvertError::TwoShapes {
                        shapes: [first.name, shape.name],
                        files: [other.to_owned(), path.clone()],
                    });
                }
                _ => found = Some((shape, path)),
            }
        }
        Ok(found.map(|(shape, _)| shape))
    }
}

/// The shape of that name.
fn by_name(name: &str) -> Result<&'static Shape, ConvertError> {
    let wanted = name.to_lowercase().replace('_', "-");
    let shape = SHAPES.iter().find(|shape| shape.name == wanted);
    shape.ok_or_else(|| ConvertError::NoShape { name: name.to_owned() })
}

/// The shape of a file, by the fields of its first rows.
///
/// # Errors
/// A file that cannot be read, fields of no shape, or of several.
pub fn recognise(path: &Path) -> Result<&'static Shape, ConvertError> {
    let fields = Fields::of(path)?;
    if fields.is_lists_of(orz::is) {
        return by_name(orz::NAME);
    }
    for is_general in [false, true] {
        let fitting: Vec<&Shape> =
            SHAPES.iter().filter(|shape| shape.is_general == is_general && (shape.is)(&fields)).collect();
        match fitting[..] {
            [] => {}
            [shape] => return Ok(shape),
            _ => {
                let names = fitting.iter().map(|shape| shape.name).collect();
                return Err(ConvertError::Ambiguous { path: path.to_owned(), names });
            }
        }
    }
    let lists = fields.splits();
    if !lists.is_empty() {
        return Err(ConvertError::Lists { path: path.to_owned(), lists });
    }
    let [questions, answers] = questions::candidates(&fields);
    Err(ConvertError::Unknown { path: path.to_owned(), fields: fields.to_string(), questions, answers })
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

#[cfg(test)]
mod tests;
