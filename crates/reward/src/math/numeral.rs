//! Literal numbers: digits with separators of thousands, a decimal point, a power of ten, repeating decimals.

use super::expr::Number;
use crate::separators::thousands;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Pow;

/// A power of ten beyond this is read as a product with a symbol, not as a number.
const MAX_EXPONENT: i64 = 4000;

/// The number at the start of `text`, which is a digit or a point before one, and its length in bytes.
/// Directly between brackets a comma separates items: `(1,234)` has two.
pub(crate) fn read(text: &str, in_brackets: bool) -> (Number, usize) {
    let bytes = text.as_bytes();
    let mut digits = String::new();
    let mut at = count_digits(text);
    digits.push_str(&text[..at]);
    if (1..=3).contains(&at) && !text.starts_with('0') {
        while let Some(length) = group(&text[at..], in_brackets) {
            digits.push_str(&text[at + length - 3..at + length]);
            at += length;
        }
    }
    let mut decimals = None;
    let mut repeating = String::new();
    if bytes.get(at) == Some(&b'.') {
        let length = count_digits(&text[at + 1..]);
        if length > 0 {
            digits.push_str(&text[at + 1..=at + length]);
            decimals = Some(length as i64);
            at += 1 + length;
        }
        if let Some((length, dots)) =
            recurring(&digits[digits.len() - decimals.unwrap_or(0) as usize..], &text[at..])
        {
            // 0.8333…: the last digits go on.
            repeating.push_str(&digits[digits.len() - length..]);
            at += dots;
        } else if let Some(dots) = dots(&text[at..]).filter(|_| decimals.is_some_and(|decimals| decimals > 2))
        {
            // 3.14159…: cut off.
            at += dots;
        } else if let Some((period, length)) = period(&text[at..]) {
            if decimals.is_none() {
                at += 1;
            }
            decimals = decimals.or(Some(0));
            repeating.push_str(period);
            at += length;
        }
    }
    let mut exponent = 0;
    if let Some((power, length)) = power_of_ten(&text[at..]) {
        exponent = power;
        at += length;
    }
    let mut value = BigRational::from_integer(digits.parse::<BigInt>().unwrap_or_default());
    let ten = BigInt::from(10);
    let shift = decimals.unwrap_or(0);
    if !repeating.is_empty() {
        // 0.1(6) = (1 + 6/9) / 10
        let nines = Pow::pow(&ten, repeating.len()) - BigInt::from(1);
        value += BigRational::new(repeating.parse::<BigInt>().unwrap_or_default(), nines);
    }
    value *= power(exponent - shift);
    let exact = !repeating.is_empty() || exponent != 0 && decimals.is_none();
    let decimals = if exact { None } else { decimals.map(|decimals| decimals - exponent) };
    (Number { value, decimals }, at)
}

/// 10 to the power `exponent`.
pub(crate) fn power(exponent: i64) -> BigRational {
    let power = BigInt::from(10).pow(exponent.unsigned_abs() as u32);
    if exponent < 0 { BigRational::new_raw(1.into(), power) } else { BigRational::from_integer(power) }
}

/// Whether `text`, behind a decimal point, begins with digits or a period.
pub(crate) fn is_fraction(text: &str) -> bool {
    count_digits(text) > 0 || period(text).is_some()
}

/// The whole number that `text` says in English words: `twenty-one`, `one hundred and five`.
pub(crate) fn in_words(text: &str) -> Option<i64> {
    const UNITS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let text = text.trim_matches(|c: char| c.is_whitespace() || ".,!*".contains(c)).to_ascii_lowercase();
    if text.len() > 100 {
        return None;
    }
    let position = |names: &[&str], word: &str| names.iter().position(|name| *name == word);
    let words: Vec<&str> = text.split([' ', '-']).filter(|word| !word.is_empty()).collect();
    if words == ["zero"] {
        return Some(0);
    }
    // Words of values below `room` can follow, and scales below `scale`.
    let (mut total, mut group, mut room, mut scale) = (0_i64, 0_i64, 100_i64, i64::MAX);
    for (at, word) in words.iter().enumerate() {
        let value = position(&UNITS, word).or_else(|| position(&TENS, word).map(|at| 10 * at + 20));
        let factor = [("thousand", 1_000), ("million", 1_000_000)].into_iter().find(|(name, _)| name == word);
        match (value.map(|value| value as i64), factor) {
            (Some(value), _) if value > 0 && value < room => {
                group += value;
                room = if value >= 20 { 10 } else { 1 };
            }
            (None, Some((_, factor))) if group > 0 && factor < scale => {
                total += group * factor;
                (group, room, scale) = (0, 100, factor);
            }
            (None, None) if *word == "hundred" && (1..10).contains(&group) => {
                group *= 100;
                room = 100;
            }
            (None, None)
                if *word == "and" && at > 0 && at + 1 < words.len() && words[at - 1] == "hundred" => {}
            _ => return None,
        }
    }
    Some(total + group).filter(|value| *value > 0)
}

fn count_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The length of a separator of thousands and the three digits after it. In brackets, what may separate items is none.
fn group(text: &str, in_brackets: bool) -> Option<usize> {
    let separates_items = in_brackets && (text.starts_with("\\ ") || text.starts_with('~'));
    thousands(text, !in_brackets).filter(|_| !separates_items).map(|length| length + 3)
}

/// The period of `\overline{36}` or `\bar{3}`, and the length of all of it. A point may stand before it.
fn period(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix('.').unwrap_or(text);
    if let Some(digits) = rest.strip_prefix('(')
        && let length = count_digits(digits)
        && length > 0
        && digits[length..].starts_with(')')
    {
        return Some((&digits[..length], length + 2));
    }
    let command = ["\\overline", "\\bar", "\\dot"].into_iter().find(|command| rest.starts_with(command))?;
    let argument = &rest[command.len()..];
    let inner = argument.trim_start_matches(' ');
    let skipped = command.len() + argument.len() - inner.len();
    if let Some(digits) = inner.strip_prefix('{') {
        let length = count_digits(digits);
        let closed = length > 0 && digits[length..].starts_with('}');
        return closed.then(|| (&digits[..length], skipped + length + 2));
    }
    (count_digits(inner) > 0).then(|| (&inner[..1], skipped + 1))
}

/// How many of the last of `decimals` recur, where dots follow that say so, and the length of the dots: one digit that
/// stands there three times, or alone and twice, or several that stand there twice.
fn recurring(decimals: &str, text: &str) -> Option<(usize, usize)> {
    let dots = dots(text)?;
    let bytes = decimals.as_bytes();
    let recurs = |length: usize, times: usize| {
        bytes.len() >= length * times
            && bytes[bytes.len() - length * times..]
                .chunks(length)
                .all(|chunk| chunk == &bytes[bytes.len() - length..])
    };
    let length = (1..=bytes.len().min(60) / 2)
        .find(|length| recurs(*length, if *length == 1 && bytes.len() > 2 { 3 } else { 2 }))?;
    Some((length, dots))
}

/// The length of the dots with which `text` begins.
fn dots(text: &str) -> Option<usize> {
    let trimmed = text.trim_start_matches(' ');
    let dots =
        ["...", "…", "\\ldots", "\\dots", "\\cdots"].into_iter().find(|dots| trimmed.starts_with(dots))?;
    Some(text.len() - trimmed.len() + dots.len())
}

/// The power in `e3`, `E-3`, and its length.
fn power_of_ten(text: &str) -> Option<(i64, usize)> {
    let rest = text.strip_prefix(['e', 'E'])?;
    let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let length = count_digits(unsigned);
    let power: i64 = unsigned[..length].parse().ok().filter(|power| *power <= MAX_EXPONENT)?;
    let sign = if rest.starts_with('-') { -1 } else { 1 };
    Some((sign * power, text.len() - unsigned.len() + length))
}

/// `²` as a raised 2, `₁` as a lowered 1.
pub(crate) fn raised(c: char) -> Option<(char, char)> {
    const SUPERSCRIPTS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ";
    const SUBSCRIPTS: &str = "₀₁₂₃₄₅₆₇₈₉";
    let at = |all: &str| all.chars().position(|raised| raised == c);
    let digit = |at: usize| "0123456789-n".chars().nth(at);
    if let Some(at) = at(SUPERSCRIPTS) {
        return Some(('^', digit(at)?));
    }
    Some(('_', digit(at(SUBSCRIPTS)?)?))
}

/// `½` as 1/2.
pub(crate) fn vulgar_fraction(c: char) -> Option<BigRational> {
    let (numerator, denominator): (i64, i64) = match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        _ => return None,
    };
    Some(BigRational::new(numerator.into(), denominator.into()))
}

/// `text` with its only comma as a decimal point, where it can be one: `1,22`, `0,5`, `1.234,5`. One that may
/// separate thousands, `1,234`, or two small numbers, `3,5`, is none.
pub(crate) fn decimal_comma(text: &str) -> Option<String> {
    let (before, after) = text.split_once(',')?;
    let fraction = count_digits(after);
    let whole = before.trim_start_matches(|c: char| c.is_whitespace() || "$-+(\\".contains(c));
    let grouped = whole.contains('.')
        && whole.split('.').skip(1).all(|group| group.len() == 3 && count_digits(group) == 3);
    let digits: String = whole.chars().filter(|c| *c != '.').collect();
    let is_number =
        !digits.is_empty() && count_digits(&digits) == digits.len() && (grouped || !whole.contains('.'));
    let rest = &after[fraction..];
    let alone = !rest.contains([',', '.']) && !rest.contains(|c: char| c.is_ascii_digit());
    let may_group = fraction == 3 && !whole.starts_with('0') && !grouped;
    let is_decimal = fraction >= 2 || whole == "0" && fraction > 0 || grouped && fraction > 0;
    if !(is_number && alone && is_decimal && !may_group) {
        return None;
    }
    let prefix = &before[..before.len() - whole.len()];
    Some(format!("{prefix}{digits}.{after}"))
}

/// What a word of magnitude multiplies by: `million`, `dozen`, `tenths`; as a power of ten where it is one.
pub(crate) fn magnitude(word: &str) -> Option<(BigRational, Option<i64>)> {
    let first = word.bytes().next()?.to_ascii_lowercase();
    if word.len() > 40 || word.len() < 2 || first.is_ascii() && !b"bcdghlmqt".contains(&first) {
        return None;
    }
    let power_of_ten = |exponent: i64| Some((power(exponent), Some(exponent)));
    let fraction = |numerator: i64, denominator: i64| {
        Some((BigRational::new(numerator.into(), denominator.into()), None))
    };
    match word.to_lowercase().trim_end_matches(['.', ',', ';', '!', '?']) {
        "dozen" | "dozens" => fraction(12, 1),
        "gross" => fraction(144, 1),
        "half" | "halves" => fraction(1, 2),
        "third" | "thirds" => fraction(1, 3),
        "tenth" | "tenths" => power_of_ten(-1),
        "hundredth" | "hundredths" => power_of_ten(-2),
        "thousandth" | "thousandths" => power_of_ten(-3),
        "millionth" | "millionths" => power_of_ten(-6),
        "hundred" | "hundreds" | "百" => power_of_ten(2),
        "thousand" | "thousands" | "mille" | "mil" | "tausend" | "千" | "тысяч" | "тысячи" => {
            power_of_ten(3)
        }
        "万" => power_of_ten(4),
        "lakh" | "lakhs" => power_of_ten(5),
        "million" | "millions" | "millón" | "millones" | "millionen" | "百万" | "миллион" | "миллиона"
        | "миллионов" => power_of_ten(6),
        "crore" | "crores" | "千万" => power_of_ten(7),
        "亿" => power_of_ten(8),
        "billion" | "billions" | "bn" | "milliarde" | "milliarden" | "milliard" | "milliards" | "十亿" => {
            power_of_ten(9)
        }
        "trillion" | "trillions" | "万亿" => power_of_ten(12),
        "quadrillion" | "quadrillions" => power_of_ten(15),
        _ => None,
    }
}

/// The word of magnitude with which `text`, what follows a number, begins, and what is behind it. A unit may be written
/// on to one that is no ASCII: `万元`.
pub(crate) fn leading_magnitude(text: &str) -> Option<(BigRational, Option<i64>, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let word = &text[..end];
    if let Some((scale, exponent)) = magnitude(word) {
        return Some((scale, exponent, &text[end..]));
    }
    let first = word.chars().next().filter(|c| !c.is_ascii())?;
    let two = word.char_indices().nth(2).map_or(word.len(), |(at, _)| at);
    [two, first.len_utf8()]
        .into_iter()
        .find_map(|end| magnitude(&word[..end]).map(|(scale, exponent)| (scale, exponent, &text[end..])))
}
