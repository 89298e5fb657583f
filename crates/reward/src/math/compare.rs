//! Whether two answers, each of whatever type, say the same.

mod chains;
mod matrix;
mod names;
mod relations;

use super::Options;
use super::budget::Budget;
use super::echo::asks_for_solutions;
use super::expr::{Expr, Number};
use super::parse::kind;
use super::region::Region;
use super::units::Unit;
use super::values::{self, Decision};
use names::{distinct_names, family, in_order_of_names, members, renamed, settle};
use num_rational::BigRational;

/// Texts that say that there is nothing, behind words like "there is".
const NOTHING: [&str; 22] = [
    "no solution",
    "no solutions",
    "no real solution",
    "no real solutions",
    "no solution exists",
    "no solutions exist",
    "no real roots",
    "no such numbers",
    "no such number",
    "no such values",
    "no such value",
    "no possible values",
    "none",
    "empty set",
    "the empty set",
    "empty",
    "null set",
    "no such",
    "no answer",
    "无解",
    "sin solución",
    "keine lösung",
];

/// Longer lists are not matched.
const MAX_ITEMS: usize = 200;

/// Compares answers with one reference.
pub(crate) struct Comparer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) budget: &'a Budget,
    /// The question, if it is known: a list of the solutions that it asks for is a set.
    pub(crate) prompt: Option<&'a str>,
}

impl Comparer<'_> {
    /// Whether `found` says what `reference` says.
    pub(crate) fn answers(&self, reference: &Expr, found: &Expr) -> Decision {
        if let Some(reason) = self.false_chain(found) {
            return Decision::Differ(reason);
        }
        let (reference, found) = (settle(reference), settle(found));
        let decision = self.settled(&reference, &found);
        if self.options.strict || decision.is_equal() {
            return decision;
        }
        match renamed(&reference, &found) {
            Some(renamed) => match self.settled(&reference, &renamed) {
                Decision::Equal(_) => Decision::Equal("the names of variables apart"),
                _ => decision,
            },
            None => decision,
        }
    }

    fn settled(&self, a: &Expr, b: &Expr) -> Decision {
        if self.budget.spend(4).is_err() {
            return Decision::from_trouble(super::budget::Trouble::Spent);
        }
        if a == b {
            return Decision::Equal("read as the same");
        }
        if matches!(a, Expr::Number(_))
            && let Some(number) = number_in_words(b)
        {
            return self.settled(a, &number);
        }
        if let Some(decision) = choices(self, a, b).or_else(|| texts(a, b)) {
            return decision;
        }
        match (a, b) {
            (Expr::Opaque(_), _) | (_, Expr::Opaque(_)) => {
                Decision::Undecided("a sum, an integral or a limit is not evaluated".into())
            }
            (Expr::Based { digits, value }, other) | (other, Expr::Based { digits, value }) => {
                based(digits, value, other)
            }
            (Expr::Logic(..), _) | (_, Expr::Logic(..)) => self.statements(a, b),
            (Expr::Relation(..), Expr::Relation(..)) => self.relations(a, b),
            (Expr::List(items), other) if family(items).is_some() => self.families(items, other),
            (other, Expr::List(items)) if family(items).is_some() => self.families(items, other),
            (Expr::List(left), Expr::List(right)) => self.lists(left, right, a, b),
            (Expr::List(items), Expr::Relation(..)) if let Some(others) = members(b) => {
                self.in_any_order(items, &others, false)
            }
            (Expr::Relation(..), Expr::List(others)) if let Some(items) = members(a) => {
                self.in_any_order(&items, others, false)
            }
            (Expr::Relation(..), _) => self.relation_and_other(a, b, true),
            (_, Expr::Relation(..)) => self.relation_and_other(b, a, false),
            (
                Expr::Tuple { items, open, close },
                Expr::Tuple { items: others, open: other_open, close: other_close },
            ) => {
                let class = |bracket: char| match bracket {
                    '⟨' => '(',
                    '⟩' => ')',
                    other => other,
                };
                let alike = class(*open) == class(*other_open) && class(*close) == class(*other_close);
                if !alike && (items.len() == 2 || is_half_open(a) || is_half_open(b)) {
                    return differ("one interval holds an end that the other does not");
                }
                self.in_order(items, others)
            }
            (Expr::Tuple { .. }, Expr::List(_)) | (Expr::List(_), Expr::Tuple { .. })
                if is_region(a) || is_region(b) || is_half_open(a) || is_half_open(b) =>
            {
                differ("an interval is not a list")
            }
            (Expr::Tuple { items, .. }, Expr::List(others)) => {
                self.in_order(items, &in_order_of_names(others))
            }
            (Expr::List(items), Expr::Tuple { items: others, .. }) => {
                self.in_order(&in_order_of_names(items), others)
            }
            (Expr::Matrix(rows), Expr::Matrix(others)) => self.matrices(rows, others),
            _ if matrix::is_composed(a) || matrix::is_composed(b) => {
                match matrix::value(a, self.budget).and_then(|a| Ok((a, matrix::value(b, self.budget)?))) {
                    Ok((a, b)) => self.settled(&a, &b),
                    Err(matrix::Trouble::Undefined(why)) => differ(why),
                    Err(matrix::Trouble::NotComputed) => Decision::Undecided(
                        "a matrix is not computed: its power is no number, or too large".into(),
                    ),
                }
            }
            (Expr::Matrix(rows), Expr::Tuple { items, .. } | Expr::List(items))
            | (Expr::Tuple { items, .. } | Expr::List(items), Expr::Matrix(rows)) => {
                let is_vector = rows.len() == 1 || rows[0].len() == 1;
                if !is_vector {
                    return differ("a matrix is not a vector");
                }
                let cells: Vec<Expr> = rows.iter().flatten().cloned().collect();
                if matches!(a, Expr::Matrix(_)) {
                    self.in_order(&cells, items)
                } else {
                    self.in_order(items, &cells)
                }
            }
            (Expr::Set(items), Expr::Set(others)) => self.in_any_order(items, others, true),
            (Expr::Set(items), Expr::List(others)) | (Expr::List(items), Expr::Set(others)) => {
                self.in_any_order(items, others, true)
            }
            _ if is_region(a) || is_region(b) => self.regions(a, b),
            (Expr::Set(items), other) if items.len() == 1 => self.settled(&settle(&items[0]), other),
            (other, Expr::Set(items)) if items.len() == 1 => self.settled(other, &settle(&items[0])),
            (
                Expr::Quantity(time, half @ (Unit::Am | Unit::Pm)),
                Expr::Quantity(other, other_half @ (Unit::Am | Unit::Pm)),
            ) => same_time(time == other && half == other_half),
            (Expr::Quantity(time, Unit::Am | Unit::Pm), other)
            | (other, Expr::Quantity(time, Unit::Am | Unit::Pm)) => same_time(**time == *other),
            (Expr::Ratio(parts), Expr::Ratio(others)) => self.ratios(parts, others),
            (Expr::Ratio(parts), other) if parts.len() == 2 => self.settled(&quotient(parts), other),
            (other, Expr::Ratio(parts)) if parts.len() == 2 => self.settled(other, &quotient(parts)),
            (Expr::Quantity(value, unit), Expr::Quantity(other, other_unit)) => {
                self.quantities(value, unit, other, other_unit)
            }
            (Expr::Quantity(value, unit), other) => self.quantity_and_number(value, unit, other, true),
            (other, Expr::Quantity(value, unit)) => self.quantity_and_number(value, unit, other, false),
            _ if is_collection(a) || is_collection(b) => {
                differ(format!("the reference is {}, the answer {}", kind(a), kind(b)))
            }
            _ => values::compare(a, b, self.options.precision, self.budget),
        }
    }

    fn in_order(&self, items: &[Expr], others: &[Expr]) -> Decision {
        if items.len() != others.len() {
            return differ(format!("{} parts are not {}", others.len(), items.len()));
        }
        let mut worst = Decision::Equal("part by part");
        for (item, other) in items.iter().zip(others) {
            match self.settled(&settle(item), &settle(other)) {
                Decision::Equal(_) => {}
                Decision::Differ(reason) => return Decision::Differ(format!("a part differs: {reason}")),
                undecided @ Decision::Undecided(_) => worst = undecided,
            }
        }
        worst
    }

    /// One-to-one matching. Equality being an equivalence, the first match will do.
    fn in_any_order(&self, items: &[Expr], others: &[Expr], as_sets: bool) -> Decision {
        if items.len() > MAX_ITEMS || others.len() > MAX_ITEMS {
            return Decision::Undecided(format!("a list is longer than {MAX_ITEMS}"));
        }
        let settled = |items: &[Expr]| items.iter().map(settle).collect::<Vec<_>>();
        let (mut items, mut others) = (settled(items), settled(others));
        if as_sets {
            self.remove_repeated(&mut items);
            self.remove_repeated(&mut others);
        }
        if items.len() != others.len() {
            return differ(format!("{} items are not {}", others.len(), items.len()));
        }
        let mut undecided = None;
        for item in &items {
            let mut matched = None;
            let mut reason = None;
            for (at, other) in others.iter().enumerate() {
                match self.settled(item, other) {
                    Decision::Equal(_) => {
                        matched = Some(at);
                        break;
                    }
                    Decision::Undecided(why) => reason = Some(Decision::Undecided(why)),
                    Decision::Differ(_) => {}
                }
            }
            match (matched, reason) {
                (Some(at), _) => {
                    others.swap_remove(at);
                }
                (None, Some(reason)) => undecided = Some(reason),
                (None, None) => return differ("an item of the reference is not among those found"),
            }
        }
        undecided.unwrap_or(Decision::Equal("item by item"))
    }

    fn remove_repeated(&self, items: &mut Vec<Expr>) {
        let mut at = 0;
        while at < items.len() {
            let (before, rest) = items.split_at(at);
            if before.iter().any(|item| self.settled(item, &rest[0]).is_equal()) {
                items.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Lists: in any order, unless the names of one side give bare values of the other their order.
    fn lists(&self, left: &[Expr], right: &[Expr], a: &Expr, b: &Expr) -> Decision {
        let has_inequality = |items: &[Expr]| {
            items.iter().any(
                |item| matches!(item, Expr::Relation(_, signs) if signs.iter().any(|s| "<>≤≥≠".contains(*s))),
            )
        };
        if has_inequality(left)
            && has_inequality(right)
            && let Some((a, b)) = as_regions(a, b, self.budget)
        {
            return region_decision(a.equals(&b, self.budget));
        }
        let (names, others) = (distinct_names(left), distinct_names(right));
        if names != others && (names || others) {
            return self.in_order(&in_order_of_names(left), &in_order_of_names(right));
        }
        // Solutions are a set; other items count as often as they stand there.
        let is_solution = |item: &Expr| matches!(item, Expr::Relation(..) | Expr::Tuple { .. });
        let are_solutions = left.len() != right.len()
            && (left.iter().all(is_solution)
                || right.iter().all(is_solution)
                || self.prompt.is_some_and(asks_for_solutions));
        self.in_any_order(left, right, are_solutions)
    }

    fn matrices(&self, rows: &[Vec<Expr>], others: &[Vec<Expr>]) -> Decision {
        if rows.len() != others.len() || rows[0].len() != others[0].len() {
            return differ("the matrices are of different shapes");
        }
        let flat = |rows: &[Vec<Expr>]| rows.iter().flatten().cloned().collect::<Vec<_>>();
        self.in_order(&flat(rows), &flat(others))
    }

    fn regions(&self, a: &Expr, b: &Expr) -> Decision {
        match (Region::of(a, self.budget), Region::of(b, self.budget)) {
            (Ok(a), Ok(b)) => region_decision(a.equals(&b, self.budget)),
            _ => match (a, b) {
                (Expr::Operation(sign, a, b), Expr::Operation(other_sign, c, d)) if sign == other_sign => {
                    match self.in_order(&[(**a).clone(), (**b).clone()], &[(**c).clone(), (**d).clone()]) {
                        Decision::Equal(how) => Decision::Equal(how),
                        _ => Decision::Undecided("the sets are not of a kind that is compared".into()),
                    }
                }
                (Expr::Numbers(_), Expr::Numbers(_)) => differ("they are different sets of numbers"),
                _ if is_region(a) && is_region(b) => {
                    Decision::Undecided("the sets are not of a kind that is compared".into())
                }
                _ => differ(format!("the reference is {}, the answer {}", kind(a), kind(b))),
            },
        }
    }

    fn ratios(&self, parts: &[Expr], others: &[Expr]) -> Decision {
        if parts.len() != others.len() {
            return differ("the ratios are of different numbers of parts");
        }
        let alike = self.in_order(parts, others);
        if alike.is_equal() {
            return alike;
        }
        if is_time(parts) && is_time(others) {
            return if zero_minutes(parts) || zero_minutes(others) {
                differ("the times differ")
            } else {
                Decision::Undecided("as times they differ, as ratios they may not".into())
            };
        }
        for (part, other) in parts[1..].iter().zip(&others[1..]) {
            let left = Expr::Product(vec![parts[0].clone(), other.clone()]);
            let right = Expr::Product(vec![others[0].clone(), part.clone()]);
            let decision = values::compare(&left, &right, 0, self.budget);
            if !decision.is_equal() {
                return decision;
            }
        }
        Decision::Equal("as ratios")
    }

    fn quantities(&self, value: &Expr, unit: &Unit, other: &Expr, other_unit: &Unit) -> Decision {
        match (unit, other_unit) {
            _ if unit == other_unit => self.settled(value, other),
            (Unit::Known { dimensions, scale }, Unit::Known { dimensions: others, scale: other_scale }) => {
                if dimensions != others {
                    return differ("the units measure different things");
                }
                if scale == other_scale {
                    return self.settled(value, other);
                }
                let left = values::scaled(value, &(scale / other_scale));
                values::compare(&left, other, self.options.precision, self.budget)
            }
            (Unit::Degree, Unit::Known { dimensions, .. }) if is_radian(dimensions) => {
                self.settled(&radians(value), other)
            }
            (Unit::Known { dimensions, .. }, Unit::Degree) if is_radian(dimensions) => {
                self.settled(value, &radians(other))
            }
            // A word that is no ASCII is more often a unit that is not known than a noun.
            (Unit::Other(words), Unit::Other(others))
                if !words.starts_with(others.as_str())
                    && !others.starts_with(words.as_str())
                    && !format!("{words}{others}").is_ascii() =>
            {
                differ("the units differ")
            }
            (Unit::Other(words), Unit::Known { .. }) | (Unit::Known { .. }, Unit::Other(words))
                if !words.is_ascii() =>
            {
                differ("the units differ")
            }
            (Unit::Other(_), _) => self.quantity_and_number(other, other_unit, value, false),
            (_, Unit::Other(_)) => self.quantity_and_number(value, unit, other, true),
            _ => differ("the units measure different things"),
        }
    }

    /// A value with a unit, and one without: the unit was left off. `first`: the quantity is the reference.
    fn quantity_and_number(&self, value: &Expr, unit: &Unit, other: &Expr, first: bool) -> Decision {
        let compare =
            |value: &Expr| if first { self.settled(value, other) } else { self.settled(other, value) };
        match unit {
            Unit::Percent => {
                let whole = Expr::Quantity(Box::new(value.clone()), Unit::Percent);
                let precision = self.options.precision;
                let decision = if is_collection(other) || is_collection(value) {
                    compare(value)
                } else if first {
                    values::compare(&whole, other, precision, self.budget)
                } else {
                    values::compare(other, &whole, precision, self.budget)
                };
                if decision.is_equal() || !self.options.bare_percent { decision } else { compare(value) }
            }
            Unit::Degree => {
                let decision = compare(value);
                if decision.is_equal() { decision } else { compare(&radians(value)) }
            }
            _ => compare(value),
        }
    }

    fn any_value(&self, values: &[Expr], others: &[Expr]) -> Decision {
        let mut first = None;
        for value in values {
            for other in others {
                let decision = self.settled(&settle(value), &settle(other));
                if decision.is_equal() {
                    return decision;
                }
                first.get_or_insert(decision);
            }
        }
        first.unwrap_or_else(|| differ("there is no value"))
    }

    /// Values that depend on a whole number: equal where one parameter can be renamed, negated or shifted into
    /// the other; otherwise undecided.
    fn families(&self, items: &[Expr], other: &Expr) -> Decision {
        let Some((values, parameter, domain)) = family(items) else { return differ("there is no family") };
        let (others, other_parameter) = match other {
            Expr::List(items) => match family(items) {
                Some((.., other)) if other != domain => {
                    return differ("their parameters stand for different numbers");
                }
                Some((others, parameter, _)) => (others, Some(parameter)),
                None => (items.clone(), None),
            },
            single => (vec![single.clone()], None),
        };
        let name = other_parameter.or_else(|| {
            let names: Vec<String> = others
                .iter()
                .flat_map(Expr::symbols)
                .filter(|name| matches!(*name, "k" | "n" | "m"))
                .map(str::to_owned)
                .collect();
            names.first().cloned()
        });
        let Some(name) = name else {
            return differ("a family of values is not a single value");
        };
        // Only ℤ is the same when it is mirrored or shifted.
        let moves = [(1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)];
        let moves = if domain == 'Z' { &moves[..] } else { &moves[..1] };
        for &(factor, shift) in moves {
            let index = Expr::Sum(vec![
                Expr::Product(vec![Expr::integer(factor), Expr::Symbol(parameter.clone())]),
                Expr::integer(shift),
            ]);
            let moved: Vec<Expr> = others
                .iter()
                .map(|other| {
                    other.map(&mut |part| match part {
                        Expr::Symbol(symbol) if symbol == name => index.clone(),
                        part => part,
                    })
                })
                .collect();
            if self.in_any_order(&values, &moved, false).is_equal() {
                return Decision::Equal("families of values, by their parameter");
            }
        }
        Decision::Undecided("families of values can be equal in more ways than are tried".into())
    }
}

/// Multiple-choice letters.
fn choices(comparer: &Comparer, a: &Expr, b: &Expr) -> Option<Decision> {
    let is_letter = |expr: &Expr| {
        matches!(expr, Expr::Choice(..))
            || matches!(expr, Expr::Symbol(name) if matches!(name.as_str(), "A" | "B" | "C" | "D" | "E"))
    };
    if is_letter(a) && matches!(b, Expr::Relation(sides, _) if sides.len() > 1 && is_letter(&sides[0])) {
        return Some(differ("it names two letters"));
    }
    let letter = |expr: &Expr| match expr {
        Expr::Choice(letter, _) => Some(*letter),
        Expr::Symbol(name) if name.len() == 1 => name.chars().next(),
        _ => None,
    };
    match (a, b) {
        (Expr::Choice(left, _), Expr::Choice(right, _)) => {
            Some(if left == right { Decision::Equal("the same letter") } else { differ("another letter") })
        }
        (Expr::Choice(left, rest), other) | (other, Expr::Choice(left, rest)) => {
            if let Some(right) = letter(other) {
                return Some(if left.eq_ignore_ascii_case(&right) {
                    Decision::Equal("the same letter")
                } else {
                    differ("another letter")
                });
            }
            let Some(rest) = rest else { return Some(differ("a letter is not a value")) };
            Some(if matches!(a, Expr::Choice(..)) {
                comparer.settled(rest, b)
            } else {
                comparer.settled(a, rest)
            })
        }
        (Expr::Symbol(name), found) if matches!(name.as_str(), "A" | "B" | "C" | "D" | "E") => {
            let right = if *found == Expr::E { Some('e') } else { letter(found) };
            (right == name.chars().next().map(|c| c.to_ascii_lowercase()))
                .then_some(Decision::Equal("the same letter"))
        }
        _ => None,
    }
}

/// Words: alike except for case, spaces and marks; "no solution" is the empty set.
fn texts(a: &Expr, b: &Expr) -> Option<Decision> {
    let nothing = |expr: &Expr| match expr {
        Expr::Text(text) => says_nothing(text),
        Expr::Set(items) => items.is_empty(),
        other => letters(other).is_some_and(|letters| letters == "none"),
    };
    if nothing(a) && nothing(b) {
        return Some(Decision::Equal("both say that there is nothing"));
    }
    if !matches!((a, b), (Expr::Text(_), _) | (_, Expr::Text(_))) {
        let (a, b) = (letters(a)?, letters(b)?);
        return (a.len() > 2 && a == b).then_some(Decision::Equal("the same word"));
    }
    match (letters(a), letters(b)) {
        (Some(a), Some(b)) if a == b => Some(Decision::Equal("the same words")),
        (Some(_), Some(_)) => Some(differ("the words differ")),
        _ => Some(differ(format!("the reference is {}, the answer {}", kind(a), kind(b)))),
    }
}

/// Whether words say that there is no solution.
fn says_nothing(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || ".,!$*".contains(c)).to_lowercase();
    let leads = [
        "there is ",
        "there are ",
        "there exists ",
        "there exist ",
        "it has ",
        "the equation has ",
        "the system has ",
    ];
    let text = leads.iter().fold(text.as_str(), |text, lead| text.strip_prefix(lead).unwrap_or(text));
    let text = ["to the equation", "to the system", "to this equation", "in the real numbers"]
        .iter()
        .fold(text, |text, end| text.strip_suffix(end).unwrap_or(text).trim_end());
    NOTHING.contains(&text)
}

/// The letters and digits of a text or of a product of variables, in lower case.
fn letters(expr: &Expr) -> Option<String> {
    let lower = |text: &str| {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    match expr {
        Expr::Text(text) => {
            let text = text.trim().to_lowercase();
            let text = ["it is ", "it's ", "the ", "a "]
                .iter()
                .fold(text.as_str(), |text, lead| text.strip_prefix(lead).unwrap_or(text));
            Some(lower(text))
        }
        Expr::Symbol(name) => Some(lower(name)),
        Expr::E => Some("e".into()),
        Expr::I => Some("i".into()),
        Expr::Product(factors) => factors.iter().map(letters).collect(),
        _ => None,
    }
}

/// The number that words say, which letters that stand together can be too: `ten`.
fn number_in_words(expr: &Expr) -> Option<Expr> {
    let number = match expr {
        Expr::Text(text) => super::numeral::in_words(text),
        Expr::Product(_) => super::numeral::in_words(&letters(expr)?),
        _ => None,
    };
    number.map(Expr::integer)
}

/// Digits in a base, and another number: the base may have been left off.
fn based(digits: &Number, value: &num_bigint::BigInt, other: &Expr) -> Decision {
    let same = match other {
        Expr::Based { value: other, .. } => value == other,
        Expr::Number(other) => digits.value == other.value,
        _ => false,
    };
    if same { Decision::Equal("the same digits") } else { differ("the numbers differ") }
}

/// `a < b` as `b - a > 0`, and so on: the difference and one of `>`, `≥`, `=`, `≠`. None for what has no
/// difference.
fn oriented(sides: &[Expr], sign: char) -> (Option<Expr>, char) {
    if sides.iter().any(is_collection) {
        return (None, sign);
    }
    let (left, right) = (&sides[0], &sides[1]);
    match sign {
        '<' => (Some(right.minus(left)), '>'),
        '≤' => (Some(right.minus(left)), '≥'),
        '≈' => (Some(left.minus(right)), '='),
        '>' | '≥' | '=' | '≠' => (Some(left.minus(right)), sign),
        _ => (None, sign),
    }
}

/// Whether it is a set of numbers that is not a finite list.
fn is_region(expr: &Expr) -> bool {
    match expr {
        Expr::Operation(..) | Expr::Numbers(_) | Expr::Builder(..) => true,
        Expr::Tuple { items, open, close } => items.len() == 2 && (*open == '[' || *close == ']'),
        _ => false,
    }
}

/// Whether it holds one of its two ends: `[1, 2)`.
fn is_half_open(expr: &Expr) -> bool {
    matches!(expr, Expr::Tuple { open, close, .. } if (*open == '[') != (*close == ']'))
}

/// Whether it has neither variables nor unknown functions.
fn is_constant(expr: &Expr) -> bool {
    !expr.any(&|part| matches!(part, Expr::Symbol(_) | Expr::Apply(..) | Expr::Text(_)))
}

/// Both as sets of numbers, where they are and speak of one variable.
fn as_regions(a: &Expr, b: &Expr, budget: &Budget) -> Option<(Region, Region)> {
    let names = a.symbols();
    let other = b.symbols();
    let is_one =
        names.len() <= 1 && other.len() <= 1 && (names == other || names.is_empty() || other.is_empty());
    if !is_one {
        return None;
    }
    Some((Region::of(a, budget).ok()?, Region::of(b, budget).ok()?))
}

fn is_collection(expr: &Expr) -> bool {
    is_region(expr)
        || matches!(expr, Expr::Product(factors) if factors.iter().any(is_collection))
        || matches!(
            expr,
            Expr::List(_)
                | Expr::Logic(..)
                | Expr::Tuple { .. }
                | Expr::Set(_)
                | Expr::Matrix(_)
                | Expr::Relation(..)
                | Expr::Text(_)
        )
}

fn is_time(parts: &[Expr]) -> bool {
    let count = |part: &Expr, limit: i64| {
        part.as_count().is_some_and(|count| *count < num_bigint::BigInt::from(limit))
    };
    let single = |part: &Expr| count(part, 10) && !part.is_integer(0);
    matches!(parts, [hours, minutes, ..] if count(hours, 25) && count(minutes, 60) && !single(minutes))
}

fn zero_minutes(parts: &[Expr]) -> bool {
    parts[1].is_integer(0)
}

fn is_radian(dimensions: &[(&'static str, i32)]) -> bool {
    matches!(dimensions, [("radian", 1)])
}

/// An angle in degrees as a product with π / 180.
fn radians(degrees: &Expr) -> Expr {
    let share = Number { value: BigRational::new(1.into(), 180.into()), decimals: None };
    Expr::Product(vec![degrees.clone(), Expr::Pi, Expr::Number(share)])
}

fn quotient(parts: &[Expr]) -> Expr {
    Expr::Product(vec![parts[0].clone(), parts[1].clone().inverted()])
}

fn region_decision(equal: Result<bool, super::budget::Trouble>) -> Decision {
    match equal {
        Ok(true) => Decision::Equal("the same set of numbers"),
        Ok(false) => differ("they are different sets of numbers"),
        Err(trouble) => Decision::from_trouble(trouble),
    }
}

fn same_time(same: bool) -> Decision {
    if same { Decision::Equal("the same time of day") } else { differ("they are not the same time of day") }
}

fn differ(reason: impl Into<String>) -> Decision {
    Decision::Differ(reason.into())
}
