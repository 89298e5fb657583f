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
    (&["m", "meter", "metre", "米", "metro", "mètre", "metern", "метр", "м"], "length", 1, 1),
    (&["km", "kilometer", "kilometre", "千米", "公里", "kilómetro", "kilomètre", "км"], "length", 1000, 1),
    (&["dm", "decimeter", "decimetre", "分米"], "length", 1, 10),
    (&["cm", "centimeter", "centimetre", "厘米", "公分", "centímetro", "centimètre", "см"], "length", 1, 100),
    (&["mm", "millimeter", "millimetre", "毫米", "milímetro", "millimètre", "мм"], "length", 1, 1000),
    (&["nm", "nanometer", "nanometre", "纳米"], "length", 1, 1_000_000_000),
    (&["in", "inch", "inche"], "length", 254, 10_000),
    (&["ft", "foot", "feet"], "length", 3048, 10_000),
    (&["yd", "yard"], "length", 9144, 10_000),
    (&["mi", "mile", "英里"], "length", 1_609_344, 1000),
    (&["里"], "length", 500, 1),
    (&["kg", "kilogram", "千克", "公斤", "kilogramo", "kilogramme", "кг"], "mass", 1000, 1),
    (&["g", "gram", "gm", "克", "gramo", "gramme", "г"], "mass", 1, 1),
    (&["斤"], "mass", 500, 1),
    (&["mg", "milligram", "毫克"], "mass", 1, 1000),
    (&["ton", "tonne", "吨", "tonelada"], "mass", 1_000_000, 1),
    (&["lb", "pound"], "mass", 45_359_237, 100_000),
    (&["oz", "ounce"], "mass", 45_359_237, 1_600_000),
    (
        &["s", "sec", "second", "秒", "秒钟", "segundo", "seconde", "sekunde", "sekunden", "секунд", "с"],
        "time",
        1,
        1,
    ),
    (&["ms", "millisecond"], "time", 1, 1000),
    (&["min", "minute", "分钟", "minuto", "minuten", "минут", "мин"], "time", 60, 1),
    (
        &[
            "h",
            "hr",
            "hour",
            "小时",
            "时",
            "钟头",
            "hora",
            "heure",
            "stunde",
            "stunden",
            "часов",
            "часа",
            "час",
            "ч",
        ],
        "time",
        3600,
        1,
    ),
    (&["day", "天", "日", "día", "dia", "jour", "tag", "tage", "дней", "дня", "день"], "time", 86_400, 1),
    (&["week", "周", "星期", "semana", "semaine", "woche", "wochen"], "time", 604_800, 1),
    (&["month", "月", "个月", "mese"], "month", 1, 1),
    (&["yr", "year", "年", "岁", "año", "jahre", "лет"], "month", 12, 1),
    (&["l", "liter", "litre", "升", "litro"], "litre", 1, 1),
    (&["ml", "milliliter", "millilitre", "毫升", "mililitro"], "litre", 1, 1000),
    (&["gallon", "gal"], "gallon", 1, 1),
    (&["quart"], "gallon", 1, 4),
    (&["pint"], "gallon", 1, 8),
    (&["cup"], "gallon", 1, 16),
    (&["acre"], "acre", 1, 1),
    (&["hectare", "ha", "公顷"], "hectare", 1, 1),
    (&["亩"], "mu", 1, 1),
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
    (&["°c", "celsius"], "celsius", 1, 1),
    (&["°f", "fahrenheit"], "fahrenheit", 1, 1),
    (&["rad", "radian"], "radian", 1, 1),
    (&["$", "usd", "dollar", "buck", "美元", "dólar"], "dollar", 1, 1),
    (&["¢", "cent", "penny", "pennie"], "dollar", 1, 100),
    (&["€", "eur", "euro", "欧元"], "euro", 1, 1),
    (&["£", "gbp", "英镑"], "sterling", 1, 1),
    (&["¥", "yen", "日元"], "yen", 1, 1),
    (&["₹", "rupee", "rs"], "rupee", 1, 1),
    (&["yuan", "rmb", "元", "块", "人民币"], "yuan", 1, 1),
    (&["角", "毛", "jiao"], "yuan", 1, 10),
    (&["分", "fen"], "yuan", 1, 100),
    (&["degree", "deg", "度"], "degree", 1, 1),
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
        if matches!(words[0], "degree" | "degrees" | "deg" | "度") {
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
        word.chars().count() > 1
            && (find(&word.to_lowercase()).is_some() || matches!(word, "mph" | "kph" | "kmph"))
            && word != "in"
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
    let word = if word == "mi." { "mi" } else { word };
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
            "mph" | "kph" | "kmph" | "mps" | "rpm" => {
                let (above, below): (&str, &str) = match name {
                    "mph" => ("mile", "hour"),
                    "mps" => ("meter", "second"),
                    "rpm" => return None,
                    _ => ("km", "hour"),
                };
                for (name, power) in [(above, sign * next), (below, -sign * next)] {
                    let (dimension, size) = find(name)?;
                    scale *= Pow::pow(size, power);
                    match dimensions.iter_mut().find(|(known, _)| *known == dimension) {
                        Some((_, exponent)) => *exponent += power,
                        None => dimensions.push((dimension, power)),
                    }
                }
            }
            "square" | "sq" | "squared" => next = 2,
            "cubic" | "cu" => next = 3,
            "per" | "an" | "each" | "每" | "por" | "par" | "pro" => sign = -1,
            "" => {}
            _ => {
                let (name, power) = split_power(name)?;
                // 平方米, 立方厘米, 每小时: what English writes as a word of its own.
                let name = name.strip_prefix('每').map_or(name, |name| {
                    sign = -1;
                    name
                });
                let (name, raised) = match (name.strip_prefix("平方"), name.strip_prefix("立方")) {
                    (Some(name), _) => (name, 2),
                    (_, Some(name)) => (name, 3),
                    _ => (name, 1),
                };
                let power = power * raised;
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
