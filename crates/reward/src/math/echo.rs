//! The question in an answer: a reward must not pay for it.

use super::expr::Expr;
use super::find;
use super::parse;

/// So many formulas of a question are read.
const MAX_FORMULAS: usize = 24;

/// A longer question is looked at no further than this, from its end.
const MAX_LENGTH: usize = 16 << 10;

/// Whether a question asks for solutions or roots, each once: not for a multiplicity.
pub(crate) fn asks_for_solutions(prompt: &str) -> bool {
    const WORDS: [&str; 9] = [
        "solve",
        "solves",
        "solving",
        "solution",
        "solutions",
        "satisfy",
        "satisfies",
        "satisfying",
        "zeros",
    ];
    let prompt = prompt.to_lowercase();
    let mut words = prompt.split(|c: char| !c.is_alphabetic());
    !prompt.contains("multiplicit") && words.any(|word| WORDS.contains(&word) || word == "roots")
}

/// A question, and whether a completion is but that.
pub(crate) struct Asked<'a> {
    prompt: &'a str,
    is_copy: bool,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(prompt: &'a str, completion: &str) -> Self {
        let start = prompt.len().saturating_sub(MAX_LENGTH);
        let start = (start..=prompt.len()).find(|at| prompt.is_char_boundary(*at)).unwrap_or(0);
        let prompt = &prompt[start..];
        let completion = words(find::region(completion));
        let has_several = completion.contains(' ');
        let lines = prompt.trim().lines().rev().filter(|line| !line.trim().is_empty()).take(1);
        let is_option = |line: &str| {
            let line = line.trim_start().trim_start_matches('(');
            let mut chars = line.chars();
            chars.next().is_some_and(|c| c.is_ascii_uppercase())
                && chars.next().is_some_and(|c| ").:".contains(c))
        };
        // What ends in the question states nothing of its own behind it.
        let repeats = |asked: &str| {
            let asked = words(asked);
            completion == asked || asked.split(' ').count() > 4 && completion.ends_with(&asked)
        };
        let is_copy = has_several
            && (repeats(prompt) || lines.into_iter().any(|line| !is_option(line) && repeats(line)));
        Self { prompt, is_copy }
    }

    /// Whether the answer `found` is the question's: it has the structure of an expression in it, and `reference` has not.
    pub(crate) fn is_echo(&self, reference: &Expr, found: &Expr) -> bool {
        if self.is_copy {
            return true;
        }
        let found = value(found).ordered();
        if is_atom(&found, self.converts()) || found == value(reference).ordered() {
            return false;
        }
        let formulas = find::formulas(self.prompt);
        formulas.iter().take(MAX_FORMULAS).filter_map(|text| parse::parse(text).ok()).any(|asked| {
            let same = |asked: &Expr| asked.ordered() == found;
            same(&asked)
                || match &asked {
                    Expr::Relation(sides, _) => sides.iter().any(same),
                    Expr::List(items) => items.iter().any(same),
                    _ => false,
                }
        })
    }

    /// Whether the question asks for a number in another form.
    fn converts(&self) -> bool {
        const VERBS: [&str; 9] = [
            "convert",
            "write",
            "express",
            "simplify",
            "reduce",
            "round",
            "change",
            "rewrite",
            "lowest terms",
        ];
        let lower = self.prompt.to_lowercase();
        VERBS.iter().any(|verb| lower.contains(verb))
    }
}

/// What an answer states: the right side of `f(x) = …`.
fn value(expr: &Expr) -> &Expr {
    match expr {
        Expr::Relation(sides, signs)
            if signs == &['='] && matches!(sides[0], Expr::Symbol(_) | Expr::Apply(..)) =>
        {
            &sides[1]
        }
        other => other,
    }
}

/// Whether it is a single number or name, which a question and its answer can share by chance. Where the question asks
/// for another form, a decimal and a percentage are forms.
fn is_atom(expr: &Expr, converts: bool) -> bool {
    match expr {
        Expr::Number(number) => !(converts && (number.decimals.is_some() || !number.value.is_integer())),
        Expr::Quantity(of, _) => !converts && is_atom(of, false),
        Expr::Product(factors) if !converts => match factors.as_slice() {
            // A fraction.
            [above, Expr::Power(below, exponent)] => {
                exponent.is_integer(-1) && is_atom(above, false) && is_atom(below, false)
            }
            [minus, of] => minus.is_integer(-1) && is_atom(of, false),
            _ => false,
        },
        Expr::Symbol(_)
        | Expr::Pi
        | Expr::E
        | Expr::I
        | Expr::Infinity
        | Expr::Choice(..)
        | Expr::Text(_)
        | Expr::Numbers(_) => true,
        Expr::Set(items) => items.is_empty(),
        Expr::Tuple { items, .. } | Expr::List(items) => items.iter().all(|item| is_atom(item, false)),
        _ => false,
    }
}

/// The letters and digits of `text`, words apart.
fn words(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words
}
