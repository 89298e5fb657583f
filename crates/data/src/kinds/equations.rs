//! Linear equations: one unknown, then systems of two and three.

use super::text::{Fraction, gcd_of, list, operand};
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "equations",
    about: "linear equations in one unknown, then systems of two and three",
    levels: &[
        "x + b = c",
        "a x + b = c",
        "a x + b = c x + d",
        "a (x + k) + b = c x + d",
        "a x + b = c x + d, solved by a fraction",
        "two unknowns",
        "three unknowns",
    ],
    chance: "the commonest answer is right in 5% at levels 1 to 4, 1.4% at level 5, below 1% after",
    draw,
};

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    match level {
        6 => system(2, random),
        7 => system(3, random),
        _ => single(level, random),
    }
}

/// `3x - 2y + 5`: a sum of coefficients with what they multiply (nothing for the constant), zeros left out.
fn sum(terms: &[(i64, &str)]) -> String {
    let mut text = String::new();
    for &(coefficient, unknown) in terms.iter().filter(|(coefficient, _)| *coefficient != 0) {
        text += match (text.is_empty(), coefficient < 0) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        };
        if coefficient.abs() != 1 || unknown.is_empty() {
            text += &coefficient.abs().to_string();
        }
        text += unknown;
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

fn single(level: usize, random: &mut Random) -> Option<Draft> {
    let x = random.signed(12);
    let (mut a, b) = (random.within(2..=9), random.signed(20));
    let (mut c, mut k) = (0, 0);
    match level {
        1 => a = 1,
        3 | 5 => c = random.signed(9),
        4 => (c, k) = (random.signed(9), random.signed(9)),
        _ => {}
    }
    if a == c {
        return None;
    }
    let constant = a * k + b; // the left side is a x + constant
    let d = if level == 5 { random.signed(30) } else { a * x + constant - c * x };
    let (p, q) = (d - constant, a - c);
    if level == 5 && p % q == 0 {
        return None;
    }
    let right = sum(&[(c, "x"), (d, "")]);
    let plain = format!("{} = {right}", sum(&[(a, "x"), (constant, "")]));
    let equation = if k == 0 {
        plain.clone()
    } else {
        let group = format!("({})", sum(&[(1, "x"), (k, "")]));
        format!("{} = {right}", sum(&[(a, &group), (b, "")]))
    };
    let mut steps = Vec::new();
    if k != 0 {
        steps.push(plain);
    }
    if constant != 0 || c != 0 {
        steps.push(format!("{} = {}", sum(&[(a, "x"), (-c, "x")]), sum(&[(d, ""), (-constant, "")])));
        steps.push(format!("{} = {p}", sum(&[(q, "x")])));
    }
    let answer = Fraction::new(p, q).text();
    if q != 1 {
        steps.push(format!("x = {p} / {}", operand(q)));
        steps.push(format!("x = {answer}"));
    }
    let form = if level == 5 { "a whole number or a fraction" } else { "a whole number" };
    let question = match random.below(3) {
        0 => format!("Solve for x: {equation}. Answer with the value of x, {form}."),
        1 => format!("What is x if {equation}? Answer with its value, {form}."),
        _ => format!("Find the number x for which {equation}. Answer with that number, {form}."),
    };
    Some(Draft { key: equation, question, answer, reward: "number", steps, ..Draft::default() })
}

const UNKNOWNS: [&str; 3] = ["x", "y", "z"];

/// Coefficients of the unknowns, then the constant on the right.
type Row = Vec<i64>;

fn equation(row: &Row) -> String {
    let terms: Vec<_> = row.iter().copied().zip(UNKNOWNS).take(row.len() - 1).collect();
    format!("{} = {}", sum(&terms), row[row.len() - 1])
}

fn system(n: usize, random: &mut Random) -> Option<Draft> {
    let values: Vec<i64> = (0..n).map(|_| random.within(-9..=9)).collect();
    let rows: Vec<Row> = (0..n)
        .map(|_| {
            let mut row: Row = (0..n).map(|_| random.signed(if n == 2 { 9 } else { 5 })).collect();
            row.push(row.iter().zip(&values).map(|(a, x)| a * x).sum());
            row
        })
        .collect();
    let steps = eliminate(rows.clone(), &values)?;
    let equations: Vec<String> = rows.iter().map(equation).collect();
    let named = |values: &[i64]| -> String {
        let pairs = values.iter().zip(UNKNOWNS).map(|(value, unknown)| format!("{unknown} = {value}"));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let form = format!("Answer in the form {}.", named(&[1, 2, 3][..n]));
    let question = match random.below(2) {
        0 => format!("Solve the system: {}. {form}", equations.join("; ")),
        _ => format!("Find {} such that {}. {form}", list(&UNKNOWNS[..n]), list(&equations)),
    };
    let mut key = equations;
    key.sort_unstable();
    let answer = named(&values);
    Some(Draft { key: key.join(";"), question, answer, reward: "assignment", steps, ..Draft::default() })
}

/// The elimination of one unknown after the other, then what each is; none if the solution is not unique.
fn eliminate(mut rows: Vec<Row>, values: &[i64]) -> Option<Vec<String>> {
    let n = rows.len();
    let mut steps = Vec::new();
    for column in 0..n {
        let pivot = (column..n).find(|&row| rows[row][column] != 0)?;
        rows.swap(column, pivot);
        for row in column + 1..n {
            let shared = gcd_of(rows[column][column], rows[row][column]);
            let (p, q) = (rows[column][column] / shared, rows[row][column] / shared);
            if q == 0 {
                continue;
            }
            let combined: Row = rows[row].iter().zip(&rows[column]).map(|(r, c)| p * r - q * c).collect();
            steps.push(format!(
                "Eliminate {}: {p} * ({}) - {} * ({}) gives {}",
                UNKNOWNS[column],
                equation(&rows[row]),
                operand(q),
                equation(&rows[column]),
                equation(&combined)
            ));
            rows[row] = combined;
        }
    }
    for column in (0..n).rev() {
        let (row, unknown) = (&rows[column], UNKNOWNS[column]);
        let known: i64 = (column + 1..n).map(|other| row[other] * values[other]).sum();
        let right = row[n] - known;
        let put = if column + 1 < n { format!("{}: ", equation(row)) } else { String::new() };
        steps.push(format!(
            "{put}{} = {right}, so {unknown} = {}",
            sum(&[(row[column], unknown)]),
            values[column]
        ));
    }
    Some(steps)
}
