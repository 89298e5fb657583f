//! Tables: those of data as rows of cells.

use super::{Block, Kind, Writer};
use crate::extract::dom::Id;
use crate::extract::formula::delimited;
use crate::extract::prune::State;
use crate::extract::tags::Tag;

/// Cells of a table that are written as a row; in larger ones the cells are blocks of their own.
const LONGEST_CELL: usize = 400;

impl Writer<'_> {
    /// Whether a table has data: rows of short cells, more than one, in more than one column.
    pub(super) fn is_data(&self, id: Id) -> bool {
        if self.dom.raw_attribute(id, "role").is_some_and(|role| role == "presentation") {
            return false;
        }
        let (mut rows, mut cells, mut length, mut cell) = (0, 0, 0, false);
        for inner in self.dom.descendants(id) {
            match self.dom.tag(inner) {
                Tag::Table | Tag::Pre | Tag::H1 | Tag::H2 | Tag::H3 | Tag::Form => return false,
                Tag::Tr => rows += 1,
                Tag::Td | Tag::Th => {
                    cells += 1;
                    length = 0;
                    cell = true;
                }
                Tag::Text if cell => {
                    length += self.dom.raw_text(inner).trim().len();
                    if length > LONGEST_CELL {
                        return false;
                    }
                }
                _ => {}
            }
        }
        cells > rows && rows > 0
    }

    pub(super) fn table(&mut self, id: Id) {
        self.flush();
        let dom = self.dom;
        let outer =
            (std::mem::replace(&mut self.kind, Kind::Row(id)), std::mem::replace(&mut self.cell, true));
        let mut columns = 0;
        let mut first = true;
        let mut inner = id + 1;
        while inner < dom.end(id) {
            if self.content.states[inner] == State::Drop {
                inner = dom.end(inner);
                continue;
            }
            match dom.tag(inner) {
                Tag::Tr => {
                    let cells = self.cells(inner);
                    if cells.iter().any(|cell| !cell.is_empty()) {
                        let heads = dom
                            .children(inner)
                            .filter(|&cell| matches!(dom.tag(cell), Tag::Td | Tag::Th))
                            .all(|cell| dom.tag(cell) == Tag::Th);
                        columns = columns.max(cells.len());
                        self.row(id, &cells);
                        if first && heads && cells.len() > 1 {
                            self.row(id, &vec!["---".to_owned(); cells.len()]);
                        }
                        first = false;
                    }
                    inner = dom.end(inner);
                }
                Tag::Caption => {
                    (self.kind, self.cell) = (Kind::Paragraph, false);
                    self.inside(inner);
                    self.flush();
                    (self.kind, self.cell) = (Kind::Row(id), true);
                    inner = dom.end(inner);
                }
                _ => inner += 1,
            }
        }
        (self.kind, self.cell) = outer;
    }

    /// The cells of a row, each with its formulas written.
    fn cells(&mut self, row: Id) -> Vec<String> {
        let dom = self.dom;
        let mut cells = Vec::new();
        for cell in dom.children(row) {
            if matches!(dom.tag(cell), Tag::Td | Tag::Th) && self.content.states[cell] != State::Drop {
                let start = self.run.len();
                if let State::Formula(at) = self.content.states[cell] {
                    self.formula(at as usize, cell);
                } else {
                    self.inside(cell);
                }
                let run = self.run.split_off(start.min(self.run.len()));
                self.last = None;
                let text = delimited::typeset(run.trim(), self.setup, &mut self.output);
                cells.push(text.split_whitespace().collect::<Vec<_>>().join(" ").replace("$$", "$"));
            }
        }
        self.run.clear();
        cells
    }

    fn row(&mut self, table: Id, cells: &[String]) {
        let filled: Vec<&String> = cells.iter().filter(|cell| !cell.is_empty() && !is_number(cell)).collect();
        let is_formula = |cell: &str| {
            cell.len() > 2 && cell.starts_with('$') && cell.ends_with('$') && cell.matches('$').count() == 2
        };
        let text = match filled[..] {
            // A formula with its number beside it.
            [only] if is_formula(only) => format!("${only}$"),
            [only] if cells.iter().filter(|cell| !cell.is_empty()).count() == 1 => only.clone(),
            _ => format!("| {} |", cells.join(" | ")),
        };
        let formulas = std::mem::take(&mut self.written)
            .max(filled.iter().filter(|cell| cell.contains('$')).count() as u32);
        let linked = std::mem::take(&mut self.linked);
        self.blocks.push(Block {
            kind: Kind::Row(table),
            text,
            formulas,
            linked,
            main: self.is_in_main(table),
        });
    }
}

/// Whether a cell is the number of an equation: `(1)`, `(2.3a)`.
fn is_number(cell: &str) -> bool {
    cell.strip_prefix('(').and_then(|cell| cell.strip_suffix(')')).is_some_and(|number| {
        number.len() <= 8
            && number.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
            && number.bytes().any(|b| b.is_ascii_digit())
    })
}
