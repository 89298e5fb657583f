//! Units of measurement: read into a field of their own, converted where two belong to one dimension.

use num_rational::BigRational;
use num_traits::Pow;

/// What follows a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unit {
    /// `%`: the value is in hundredths.
    Percent,
    /// `°`: the value is in degrees of arc.
    Degree,
    /// A unit with a size: powers of base dimensions, and how many base units it is.
    Known {
        /// Exponents by dimension, sorted by name, none zero.
        dimensions: Vec<(&'static str, i32)>,
        /// How many base units it is.
        scale: BigRational,
    },
    /// Behind a time of day: before noon.
    Am,
    /// Behind a time of day: after noon.
    Pm,
    /// Words that are no unit of measurement: `apples`, `hours ago`.
    Other(String),
}

/// Names (singular, lower case unless the case matters), dimension, and size as a fraction of base units.
const UNITS: &[(&[&str], &str, i64, i64)] = &[
    (&["m", "meter", "metre"], "length", 1, 1),
    (&["km", "kilometer", "kilometre"], "length", 1000, 1),
    (&["dm", "decimeter", "decimetre"], "length", 1, 10),
    (&["cm", "centimeter", "centimetre"], "length", 1, 100),
    (&["mm", "millimeter", "millimetre"], "length", 1, 1000),
    (&["nm", "nanometer", "nanometre"], "length", 1, 1_000_000_000),
    (&["in", "inch", "inche"], "length", 254, 10_000),
    (&["ft", "foot", "feet"], "length", 3048, 10_000),
    (&["yd", "yard"], "length", 9144, 10_000),
    (&["mi", "mile"], "length", 1_609_344, 1000),
    (&["kg", "kilogram"], "mass", 1000, 1),
    (&["g", "gram", "gm"], "mass", 1, 1),
    (&["mg", "milligram"], "mass", 1, 1000),
    (&["ton", "tonne"], "mass", 1_000_000, 1),
    (&["lb", "pound"], "mass", 45_359_237, 100_000),
    (&["oz", "ounce"], "mass", 45_359_237, 1_600_000),
    (&["s", "sec", "second"], "time", 1, 1),
    (&["ms", "millisecond"], "time", 1, 1000),
    (&["min", "minute"], "time", 60, 1),
    (&["h", "hr", "hour"], "time", 3600, 1),
    (&["day"], "time", 86_400, 1),
    (&["week"], "time", 604_800, 1),
    (&["month"], "month", 1, 1),
    (&["yr", "year"], "month", 12, 1),
    (&["l", "liter", "litre"], "litre", 1, 1),
    (&["ml", "milliliter", "millilitre"], "litre", 1, 1000),
    (&["gallon", "gal"], "gallon", 1, 1),
    (&["quart"], "gallon", 1, 4),
    (&["pint"], "gallon", 1, 8),
    (&["cup"], "gallon", 1, 16),
    (&["acre"], "acre", 1, 1),
    (&["hectare", "ha"], "hectare", 1, 1),
    (&["hz", "hertz"], "frequency", 1, 1),
    (&["n", "newton"], "force", 1, 1),
    (&["j", "joule"], "energy", 1, 1),
    (&["kj", "kilojoule"], "energy", 1000, 1),
    (&["w", "watt"], "power", 1, 1),
    (&["kw", "kilowatt"], "power", 1000, 1),
    (&["pa", "pascal"], "pressure", 1, 1),
    (&["v", "volt"], "voltage", 1, 1),
    (&["ohm"], "resistance", 1, 1),
    (&["mol", "mole"], "amount", 1, 1),
    (&["k", "kelvin"], "kelvin", 1, 1),
    (&["mph"], "mph", 1, 1),
    (&["°c", "celsius"], "celsius", 1, 1),
    (&["°f", "fahrenheit"], "fahrenheit", 1, 1),
    (&["rad", "radian"], "radian", 1, 1),
    (&["$", "usd", "dollar", "buck"], "dollar", 1, 1),
    (&["¢", "cent", "penny", "pennie"], "dollar", 1, 100),
    (&["€", "eur", "euro"], "euro", 1, 1),
    (&["£", "gbp"], "sterling", 1, 1),
    (&["¥", "yen"], "yen", 1, 1),
    (&["₹", "rupee", "rs"], "rupee", 1, 1),
    (&["yuan", "rmb"], "yuan", 1, 1),
    (&["degree", "deg"], "degree", 1, 1),
    (&["percent", "pct", "percentage"], "percent", 1, 1),
];

impl Unit {
    /// Reads `text`, the words after a value: `cm`, `square meters`, `km/h`, `m^2`, `apples`. Nothing is read
    /// of an empty text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().trim_end_matches('.').to_lowercase();
        if lower.is_empty() {
            return None;
        }
        let words: Vec<&str> = lower.split_whitespace().collect();
        if matches!(words[0], "percent" | "pct" | "percentage") || lower == "per cent" {
            return Some(Self::Percent);
        }
        if matches!(words[0], "degree" | "degrees" | "deg") {
            return match words.get(1).and_then(|word| find(word)) {
                Some(("celsius" | "fahrenheit", scale)) => Some(Self::known(words[1], scale)?),
                _ => Some(Self::Degree),
            };
        }
        match lower.replace(['.', ' '], "").as_str() {
            "am" => return Some(Self::Am),
            "pm" => return Some(Self::Pm),
            _ => {}
        }
        Some(product(&words).unwrap_or(Self::Other(lower)))
    }

    /// Whether `word` can be nothing but a unit: it is in the table and longer than a letter.
    pub(crate) fn is_name(word: &str) -> bool {
        word.chars().count() > 1 && find(&word.to_lowercase()).is_some() && word != "in"
    }

    /// Whether `text` is written as a unit in whole, as in `\\text{m}` and `\\text{m/s}`.
    pub(crate) fn is_unit(text: &str) -> bool {
        text.starts_with(char::is_alphabetic)
            && matches!(Self::parse(text), Some(Self::Known { .. } | Self::Am | Self::Pm))
    }

    /// This unit to the power `exponent`.
    pub(crate) fn power(self, exponent: i32) -> Self {
        match self {
            Self::Known { dimensions, scale } => Self::Known {
                dimensions: dimensions.into_iter().map(|(name, power)| (name, power * exponent)).collect(),
                scale: Pow::pow(scale, exponent),
            },
            other => other,
        }
    }

    fn known(word: &str, scale: BigRational) -> Option<Self> {
        Some(Self::Known { dimensions: vec![(find(word)?.0, 1)], scale })
    }
}

/// The dimension and size of the unit called `word`, in the singular or plural.
fn find(word: &str) -> Option<(&'static str, BigRational)> {
    let named = |word: &str| UNITS.iter().find(|(names, ..)| names.contains(&word));
    let singular = || word.strip_suffix('s').filter(|word| word.len() > 1).and_then(named);
    let (_, dimension, numerator, denominator) = named(word).or_else(singular)?;
    Some((dimension, BigRational::new((*numerator).into(), (*denominator).into())))
}

/// A product of units written as words: `km/h`, `square feet`, `meters per second`, `cm^2`, `m/s^2`.
fn product(words: &[&str]) -> Option<Unit> {
    let mut dimensions: Vec<(&'static str, i32)> = Vec::new();
    let mut scale = BigRational::from_integer(1.into());
    let (mut next, mut sign) = (1, 1);
    let pieces = words.iter().flat_map(|word| word.split_inclusive(['/', '*', '·']));
    for piece in pieces {
        let name = piece.trim_end_matches(['/', '*', '·', '.', ',']);
        match name {
            "square" | "sq" | "squared" => next = 2,
            "cubic" | "cu" => next = 3,
            "per" => sign = -1,
            "" => {}
            _ => {
                let (name, power) = split_power(name)?;
                let (dimension, size) = find(name)?;
                let power = sign * next * power;
                if matches!(dimension, "percent" | "degree") || !(-9..=9).contains(&power) {
                    return None;
                }
                scale *= Pow::pow(size, power);
                match dimensions.iter_mut().find(|(known, _)| *known == dimension) {
                    Some((_, exponent)) => *exponent += power,
                    None => dimensions.push((dimension, power)),
                }
                next = 1;
            }
        }
        if piece.ends_with('/') {
            sign = -1;
        }
    }
    dimensions.retain(|(_, power)| *power != 0);
    dimensions.sort_unstable();
    (!dimensions.is_empty()).then_some(Unit::Known { dimensions, scale })
}

/// `cm^2`, `cm2`, `cm²` as a name and a power.
fn split_power(text: &str) -> Option<(&str, i32)> {
    let name = text.trim_end_matches(|c: char| "^-{}²³".contains(c) || c.is_ascii_digit());
    let power: String = text[name.len()..]
        .chars()
        .filter(|c| !"^{}".contains(*c))
        .map(|c| match c {
            '²' => '2',
            '³' => '3',
            other => other,
        })
        .collect();
    Some((name, if power.is_empty() { 1 } else { power.parse().ok()? }))
}
