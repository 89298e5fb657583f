//! Conversions of units, all exact.

use super::text::decimal;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "units",
    about: "conversions of lengths, masses, times, areas, volumes and speeds",
    levels: &[
        "metric, to the smaller unit",
        "metric, to the larger unit",
        "times to the smaller unit",
        "hours, minutes and seconds",
        "feet, inches, pounds and the like, whole numbers",
        "areas and volumes",
        "speeds",
    ],
    chance: "the commonest answer is right in less than 1%",
    draw,
};

/// A larger unit, a smaller one, and how many of these it has.
type Pair = (&'static str, &'static str, i64);

static METRIC: [Pair; 12] = [
    ("meters", "centimeters", 100),
    ("meters", "millimeters", 1000),
    ("centimeters", "millimeters", 10),
    ("kilometers", "meters", 1000),
    ("kilometers", "centimeters", 100_000),
    ("kilograms", "grams", 1000),
    ("grams", "milligrams", 1000),
    ("tonnes", "kilograms", 1000),
    ("tonnes", "grams", 1_000_000),
    ("liters", "milliliters", 1000),
    ("liters", "centiliters", 100),
    ("hectoliters", "liters", 100),
];

static TIMES: [Pair; 6] = [
    ("minutes", "seconds", 60),
    ("hours", "minutes", 60),
    ("hours", "seconds", 3600),
    ("days", "hours", 24),
    ("days", "minutes", 1440),
    ("weeks", "hours", 168),
];

static IMPERIAL: [Pair; 8] = [
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("yards", "inches", 36),
    ("miles", "yards", 1760),
    ("miles", "feet", 5280),
    ("pounds", "ounces", 16),
    ("gallons", "quarts", 4),
    ("gallons", "pints", 8),
];

static SQUARES_AND_CUBES: [Pair; 8] = [
    ("square meters", "square centimeters", 10_000),
    ("square centimeters", "square millimeters", 100),
    ("square kilometers", "square meters", 1_000_000),
    ("square kilometers", "hectares", 100),
    ("hectares", "square meters", 10_000),
    ("cubic meters", "cubic centimeters", 1_000_000),
    ("cubic meters", "liters", 1000),
    ("cubic centimeters", "cubic millimeters", 1000),
];

/// The number, its unit and the unit wanted, the answer, and the steps.
type Parts = (String, &'static str, &'static str, String, Vec<String>);

#[expect(clippy::unnecessary_wraps, reason = "the type of a kind's draw")]
fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (given, from, to, answer, steps) = match level {
        1 => down(random.pick(&METRIC), 10, random),
        2 => up(random.pick(&METRIC), random.within(11..=9999)),
        3 => down(random.pick(&TIMES), 1, random),
        4 => clock(random),
        5 => imperial(random),
        6 if random.coin() => down(random.pick(&SQUARES_AND_CUBES), 10, random),
        6 => up(random.pick(&SQUARES_AND_CUBES), random.within(11..=9999)),
        _ => speed(random),
    };
    let quantity = if from.is_empty() { given } else { format!("{given} {from}") };
    let question = match random.below(3) {
        0 => format!("Convert {quantity} to {to}."),
        1 => format!("How many {to} are {quantity}?"),
        _ => format!("Express {quantity} in {to}."),
    };
    Some(Draft {
        key: format!("{quantity} in {to}"),
        question: format!("{question} Answer with the number only."),
        answer,
        reward: "number",
        steps,
        ..Draft::default()
    })
}

/// To the smaller unit, from a number of up to three digits, or a tenth of one.
fn down(&(large, small, factor): &Pair, tenths: i64, random: &mut Random) -> Parts {
    let value = random.within(2..=999);
    let given = if tenths == 10 { decimal(value, 1) } else { value.to_string() };
    let answer = (value * factor / tenths).to_string();
    let steps = vec![format!("{large} to {small}: times {factor}"), format!("{given} * {factor} = {answer}")];
    (given, large, small, answer, steps)
}

/// To the larger unit, which has a power of ten of the smaller.
fn up(&(large, small, factor): &Pair, value: i64) -> Parts {
    let answer = decimal(value, factor.ilog10() as usize);
    let steps =
        vec![format!("{small} to {large}: divided by {factor}"), format!("{value} / {factor} = {answer}")];
    (value.to_string(), small, large, answer, steps)
}

fn clock(random: &mut Random) -> Parts {
    let (hours, minutes, seconds) = (random.within(1..=23), random.within(1..=59), random.within(1..=59));
    let total = hours * 3600 + minutes * 60 + seconds;
    if random.coin() {
        let steps = vec![
            format!("{hours} * 3600 = {}", hours * 3600),
            format!("{minutes} * 60 = {}", minutes * 60),
            format!("{} + {} + {seconds} = {total}", hours * 3600, minutes * 60),
        ];
        (
            format!("{hours} hours, {minutes} minutes and {seconds} seconds"),
            "",
            "seconds",
            total.to_string(),
            steps,
        )
    } else {
        let total = hours * 60 + minutes;
        let steps =
            vec![format!("{hours} * 60 = {}", hours * 60), format!("{} + {minutes} = {total}", hours * 60)];
        (format!("{hours} hours and {minutes} minutes"), "", "minutes", total.to_string(), steps)
    }
}

fn imperial(random: &mut Random) -> Parts {
    let &(large, small, factor) = random.pick(&IMPERIAL);
    let count = random.within(2..=200);
    if random.coin() {
        let steps = vec![
            format!("{large} to {small}: times {factor}"),
            format!("{count} * {factor} = {}", count * factor),
        ];
        (count.to_string(), large, small, (count * factor).to_string(), steps)
    } else {
        let value = count * factor;
        let steps =
            vec![format!("{small} to {large}: divided by {factor}"), format!("{value} / {factor} = {count}")];
        (value.to_string(), small, large, count.to_string(), steps)
    }
}

/// Speeds that are whole numbers of meters per second, or multiples of a fifth.
fn speed(random: &mut Random) -> Parts {
    let fifths = random.within(2..=900); // 1/5 m/s = 0.72 km/h
    let (meters, kilometers) = (decimal(fifths * 2, 1), decimal(fifths * 72, 2));
    if random.coin() {
        let steps = vec![
            "meters per second to kilometers per hour: times 3.6".to_owned(),
            format!("{meters} * 3.6 = {kilometers}"),
        ];
        (meters, "meters per second", "kilometers per hour", kilometers, steps)
    } else {
        let steps = vec![
            "kilometers per hour to meters per second: divided by 3.6".to_owned(),
            format!("{kilometers} / 3.6 = {meters}"),
        ];
        (kilometers, "kilometers per hour", "meters per second", meters, steps)
    }
}
