//! What answers state beside their values: names, parameters, signs to be written out.

use crate::math::expr::{Expr, Function};

/// `x = value`, where the left side is a name, or all sides are constants.
pub(super) struct Assignment {
    pub(super) name: Expr,
    /// The value; behind it, if stated, what it is about.
    pub(super) values: Vec<Expr>,
}

fn is_constant(side: &Expr) -> bool {
    !side.any(&|part| matches!(part, Expr::Symbol(_) | Expr::Apply(..)))
}

impl Assignment {
    pub(super) fn of(expr: &Expr) -> Option<Self> {
        let Expr::Relation(sides, signs) = expr else { return None };
        if !signs.iter().all(|sign| "=≈".contains(*sign)) {
            return None;
        }
        // `5 = x`.
        if let ([value, name @ Expr::Symbol(_)], ['=']) = (&sides[..], &signs[..])
            && is_constant(value)
        {
            return Some(Self { name: name.clone(), values: vec![value.clone()] });
        }
        let name = &sides[0];
        if !is_name(name) && !sides.iter().all(is_constant) {
            return None;
        }
        // The last exact side, and the last of all; of two numerals the last alone.
        let exact = signs.iter().rposition(|sign| *sign == '=').map_or(0, |at| at + 1);
        let exact = if exact == 0 && is_name(name) { 1 } else { exact };
        let mut values = vec![sides[sides.len() - 1].clone()];
        if exact + 1 < sides.len() && !is_numeral(&sides[exact]) {
            values.insert(0, sides[exact].clone());
        }
        Some(Self { name: name.clone(), values })
    }

    /// Whether the names are one, an index that only one of them has aside.
    pub(super) fn has_name_of(&self, other: &Self) -> bool {
        let base = |name: &Expr| match name {
            Expr::Symbol(name) => name.split_once('_').map(|(base, _)| base.to_owned()),
            _ => None,
        };
        self.name == other.name
            || match (base(&self.name), base(&other.name)) {
                (Some(base), None) => other.name == Expr::Symbol(base),
                (None, Some(base)) => self.name == Expr::Symbol(base),
                _ => false,
            }
    }
}

/// Whether it is a number in digits, with a unit or without.
fn is_numeral(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) => true,
        Expr::Quantity(value, _) => is_numeral(value),
        _ => false,
    }
}

/// Whether `expr` can only be the name of a value: `x`, `f(x)`, `AB`, `NO/BO`, `A : B`, `|AB|`, `(x, y)`.
pub(super) fn is_name(expr: &Expr) -> bool {
    let is_upper = |expr: &Expr| match expr {
        Expr::Symbol(name) => name.starts_with(|c: char| c.is_uppercase() || c == '∠'),
        _ => false,
    };
    match expr {
        Expr::Symbol(_) | Expr::Apply(..) | Expr::Text(_) => true,
        Expr::Product(factors) => {
            let is_angle = matches!(&factors[0], Expr::Symbol(name) if name == "∠");
            factors.iter().all(|factor| {
                is_upper(factor)
                    || is_angle && is_name(factor)
                    || matches!(factor, Expr::Power(base, exponent) if is_name(base) && exponent.is_integer(-1))
                    || matches!(factor, Expr::Product(_)) && is_name(factor)
            }) || matches!(factors.as_slice(), [head, argument] if is_upper(head) && is_name(argument))
                || matches!(factors.as_slice(), [head, Expr::Symbol(_)] if is_function(head))
                || matches!(factors.as_slice(), [above, Expr::Power(below, exponent)]
                    if is_differential(above) && is_differential(below) && exponent.is_integer(-1))
        }
        Expr::Ratio(parts) => parts.iter().all(is_name),
        Expr::Operation(_, a, b) => is_name(a) && is_name(b),
        Expr::Tuple { items, .. } | Expr::List(items) => items.iter().all(is_name),
        Expr::Call(Function::Abs | Function::Sin | Function::Cos | Function::Tan, of) => {
            of.iter().all(is_name)
        }
        _ => false,
    }
}

/// `f'` or `f^{-1}`, before its argument.
fn is_function(expr: &Expr) -> bool {
    match expr {
        Expr::Symbol(name) => name.ends_with('\''),
        Expr::Power(base, exponent) => {
            exponent.is_integer(-1)
                && matches!(&**base, Expr::Symbol(name) if matches!(name.as_str(), "f" | "g" | "h"))
        }
        _ => false,
    }
}

/// `dy`.
fn is_differential(expr: &Expr) -> bool {
    matches!(expr, Expr::Product(factors)
        if matches!(factors.as_slice(), [Expr::Symbol(d), Expr::Symbol(_)] if d == "d"))
}

/// The values of a family and its parameter: `kπ, k ∈ ℤ`.
pub(super) fn family(items: &[Expr]) -> Option<(Vec<Expr>, String, char)> {
    let mut parameter = None;
    let mut values = Vec::new();
    for item in items {
        match item {
            Expr::Relation(sides, signs) if signs == &['∈'] && is_integers(&sides[1]) => {
                let Expr::Symbol(name) = &sides[0] else { return None };
                let domain = match &sides[1] {
                    Expr::Numbers(letter) => *letter,
                    Expr::Symbol(letter) => letter.chars().next()?,
                    _ => return None,
                };
                parameter = Some((name.clone(), domain));
            }
            other => values.push(settle(other)),
        }
    }
    let (parameter, domain) = parameter?;
    (!values.is_empty()).then_some((values, parameter, domain))
}

/// ℤ or ℕ, also written as a plain letter.
fn is_integers(expr: &Expr) -> bool {
    match expr {
        Expr::Numbers(letter) => matches!(letter, 'Z' | 'N'),
        Expr::Symbol(name) => matches!(name.as_str(), "Z" | "N"),
        _ => false,
    }
}

/// What means the same and is simpler: the last of `a ⇒ b`, `±` written out, a list of one.
pub(super) fn settle(expr: &Expr) -> Expr {
    match expr {
        Expr::Relation(sides, signs) if signs.contains(&'⇒') => {
            let at = signs.iter().rposition(|sign| *sign == '⇒').map_or(0, |at| at + 1);
            settle(&match &sides[at..] {
                [single] => single.clone(),
                rest => Expr::Relation(rest.to_vec(), signs[at..].to_vec()),
            })
        }
        Expr::List(items) => {
            let mut flat = Vec::new();
            for item in items {
                match settle(item) {
                    Expr::List(inner) => flat.extend(inner),
                    other => flat.push(other),
                }
            }
            if let Some(solutions) = solutions(&flat) {
                return Expr::List(solutions);
            }
            if flat.len() == 1 { flat.swap_remove(0) } else { Expr::List(flat) }
        }
        Expr::Set(items) if items.iter().any(has_plus_minus) => match settle(&Expr::List(items.clone())) {
            Expr::List(items) => Expr::Set(items),
            single => Expr::Set(vec![single]),
        },
        Expr::Logic(joiner, items) => {
            let items: Vec<Expr> = items.iter().map(settle).collect();
            let is_list = |item: &Expr| matches!(item, Expr::List(_));
            let flat = match Expr::List(items.clone()) {
                list if items.iter().any(is_list) => settle(&list),
                list => list,
            };
            match flat {
                Expr::List(flat) if *joiner == '∨' && solutions(&flat).is_some() => {
                    Expr::List(solutions(&flat).unwrap_or_default())
                }
                _ => Expr::Logic(*joiner, items),
            }
        }
        other if has_plus_minus(other) => {
            let with = |plus: bool| {
                other.map(&mut |part| match part {
                    Expr::PlusMinus { of, minus_first } if plus == minus_first => of.negated(),
                    Expr::PlusMinus { of, .. } => *of,
                    part => part,
                })
            };
            Expr::List(vec![with(true), with(false)])
        }
        other => other.clone(),
    }
}

fn has_plus_minus(expr: &Expr) -> bool {
    expr.any(&|part| matches!(part, Expr::PlusMinus { .. }))
}

/// `found` with its variables named, in the order of their appearance, as in `reference`.
pub(super) fn renamed(reference: &Expr, found: &Expr) -> Option<Expr> {
    let (names, others) = (reference.symbols(), found.symbols());
    if names.len() != others.len() || names == others {
        return None;
    }
    Some(found.map(&mut |part| match part {
        Expr::Symbol(name) => {
            let at = others.iter().position(|other| *other == name);
            Expr::Symbol(at.map_or(name, |at| names[at].to_owned()))
        }
        other => other,
    }))
}

/// Whether every item assigns to a variable of its own, `x = 1, y = 2`; roots `x_1`, `x_2` are of one.
pub(super) fn distinct_names(items: &[Expr]) -> bool {
    let mut names = Vec::new();
    for item in items {
        let Some(Assignment { name: Expr::Symbol(name), .. }) = Assignment::of(item) else { return false };
        names.push(name.split('_').next().unwrap_or_default().to_owned());
    }
    names.len() > 1 && !names.iter().enumerate().any(|(at, name)| names[..at].contains(name))
}

/// The name that an item assigns to, its index aside, where that is a variable.
fn base_name(item: &Expr) -> Option<String> {
    let Expr::Symbol(name) = Assignment::of(item)?.name else { return None };
    Some(name.split('_').next().unwrap_or_default().to_owned())
}

/// Several solutions of several variables, written out: `p = 5, q = 2; p = 7, q = 2` as tuples of assignments, each in
/// the order of its names.
fn solutions(items: &[Expr]) -> Option<Vec<Expr>> {
    let names: Vec<String> = items.iter().map(base_name).collect::<Option<_>>()?;
    let period = names.iter().skip(1).position(|name| *name == names[0])? + 1;
    let is_solution = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        names.len() == period
    };
    let mut all = names[..period].to_vec();
    all.sort_unstable();
    let same = names.chunks(period).all(|chunk| {
        let mut chunk = chunk.to_vec();
        chunk.sort_unstable();
        chunk == all
    });
    if period < 2 || !same || !is_solution(&names[..period]) {
        return None;
    }
    let tuple = |chunk: &[Expr]| {
        let mut items = chunk.to_vec();
        items.sort_by_key(base_name);
        Expr::Tuple { items, open: '(', close: ')' }
    };
    Some(items.chunks(period).map(tuple).collect())
}

/// Assignments to distinct variables, letters that follow one another, in the order of the alphabet, as the parts of a tuple are; other items
/// as they stand.
pub(super) fn in_order_of_names(items: &[Expr]) -> Vec<Expr> {
    let mut sorted = items.to_vec();
    let names: Option<Vec<String>> = items.iter().map(base_name).collect();
    // x and y, or a, b and c: letters that follow one another.
    let follow = |names: Vec<String>| {
        let mut letters: Vec<u8> = names.iter().filter_map(|name| name.bytes().next()).collect();
        letters.sort_unstable();
        names.iter().all(|name| name.len() == 1) && letters.windows(2).all(|pair| pair[0] + 1 == pair[1])
    };
    if names.is_some_and(follow) {
        sorted.sort_by_key(base_name);
    }
    sorted
}

/// The parts of `(x, y) = (1, 2)`, an assignment each.
pub(super) fn members(expr: &Expr) -> Option<Vec<Expr>> {
    let Expr::Relation(sides, signs) = expr else { return None };
    let ([Expr::Tuple { items: names, .. }, Expr::Tuple { items: values, .. }], ['=']) =
        (&sides[..], &signs[..])
    else {
        return None;
    };
    let is_variable = |name: &Expr| matches!(name, Expr::Symbol(_));
    if names.len() != values.len() || !names.iter().all(is_variable) {
        return None;
    }
    let pairs = names.iter().zip(values);
    Some(pairs.map(|(name, value)| Expr::Relation(vec![name.clone(), value.clone()], vec!['='])).collect())
}
