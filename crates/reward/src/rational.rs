//! Rational numbers as people write them, compared exactly: digits only, no floating point, no rounding.

/// A numerator or denominator of more significant digits than this is not compared: an equality of two
/// fractions takes the square of it in digit products.
pub(crate) const MAX_DIGITS: usize = 1_000;

/// Powers of ten beyond this are not compared, so that sums of exponents cannot overflow.
pub(crate) const MAX_EXPONENT: i64 = 1_000_000;

/// Signs of currency, tolerated before and after a number.
pub(crate) const CURRENCY: [char; 5] = ['$', '€', '£', '¥', '₹'];

/// Signs of negation: hyphen-minus and the minus sign U+2212.
const MINUS: [char; 2] = ['-', '\u{2212}'];

/// A number that was read: `±numerator / denominator`.
#[derive(Clone, Debug)]
pub(crate) struct Rational {
    negative: bool,
    numerator: Decimal,
    denominator: Decimal,
}

/// Why a text is not a [`Rational`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRational {
    /// It is not written as one.
    Syntax,
    /// It is, but exceeds [`MAX_DIGITS`] or [`MAX_EXPONENT`].
    TooLarge,
}

impl Rational {
    /// Reads a number that fills all of `text`, white space around it aside:
    ///
    /// ```text
    /// number   = [sign] [currency] decimal ["/" decimal] ["%" | "\%"] [currency]
    /// decimal  = (digits | groups) ["." [digits]] [("e" | "E") [sign] digits]  |  "." digits […]
    /// groups   = one to three digits, the first not 0, then one or more times "," and three digits
    /// ```
    ///
    /// `%` divides by 100 and nothing else, so 50% equals 0.5 and 1/2, and does not equal 50.
    pub(crate) fn parse(text: &str) -> Result<Self, NotRational> {
        let text = text.trim();
        let unsigned = text.strip_prefix(MINUS);
        let negative = unsigned.is_some();
        let text = unsigned.or_else(|| text.strip_prefix('+')).unwrap_or(text);
        let text = strip_currency(text).trim();
        let (text, percent) = match text.strip_suffix('%') {
            Some(text) => (text.strip_suffix('\\').unwrap_or(text).trim_end(), true),
            None => (text, false),
        };
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        let mut numerator = Decimal::parse(numerator.trim_end())?;
        let denominator = Decimal::parse(denominator.trim_start())?;
        if denominator.digits.is_empty() {
            return Err(NotRational::Syntax); // a division by zero is no number
        }
        if percent && !numerator.digits.is_empty() {
            numerator.exponent -= 2;
        }
        Ok(Self { negative: negative && !numerator.digits.is_empty(), numerator, denominator })
    }
}

/// `text` without one sign of currency on either side, escaped (`\$`) or not.
fn strip_currency(text: &str) -> &str {
    let text = text.strip_suffix(CURRENCY).map_or(text, |text| text.strip_suffix('\\').unwrap_or(text));
    let unescaped = text.strip_prefix('\\').unwrap_or(text);
    unescaped.strip_prefix(CURRENCY).unwrap_or(text)
}

impl PartialEq for Rational {
    /// By value: a/b equals c/d where a · d equals c · b.
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative
            && self.numerator.times(&other.denominator) == other.numerator.times(&self.denominator)
    }
}

/// `digits · 10^exponent`, most significant digit first. No zero leads or trails, so equal values are equal
/// structs; zero has no digits.
#[derive(Clone, Debug, PartialEq)]
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Result<Self, NotRational> {
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (head, groups) = whole.split_once(',').map_or((whole, None), |(head, rest)| (head, Some(rest)));
        let grouped = groups.is_none_or(|groups| {
            (1..=3).contains(&head.len())
                && !head.starts_with('0')
                && groups.split(',').all(|group| group.len() == 3)
        });
        let digits: Vec<u8> = whole.bytes().filter(|&byte| byte != b',').chain(fraction.bytes()).collect();
        if !grouped || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(NotRational::Syntax);
        }
        let digits = digits.into_iter().map(|byte| byte - b'0').collect();
        let number = Self::normalized(digits, exponent(power)? - fraction.len() as i64);
        if number.digits.len() > MAX_DIGITS || number.exponent.abs() > MAX_EXPONENT {
            return Err(NotRational::TooLarge);
        }
        Ok(number)
    }

    fn normalized(mut digits: Vec<u8>, exponent: i64) -> Self {
        let significant = digits.iter().rposition(|&digit| digit != 0).map_or(0, |last| last + 1);
        let trailing = digits.len() - significant;
        digits.truncate(significant);
        let leading = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..leading);
        let exponent = if digits.is_empty() { 0 } else { exponent + trailing as i64 };
        Self { digits, exponent }
    }

    fn times(&self, other: &Self) -> Self {
        // A column sums at most MAX_DIGITS products of 9 · 9.
        let mut columns = vec![0_u32; self.digits.len() + other.digits.len()];
        for (i, &a) in self.digits.iter().enumerate() {
            for (j, &b) in other.digits.iter().enumerate() {
                columns[i + j + 1] += u32::from(a) * u32::from(b);
            }
        }
        let mut carry = 0;
        for column in columns.iter_mut().rev() {
            carry += *column;
            *column = carry % 10;
            carry /= 10;
        }
        let digits = columns.into_iter().map(|digit| digit as u8).collect();
        Self::normalized(digits, self.exponent + other.exponent)
    }
}

/// The power of ten after an `e`.
fn exponent(text: &str) -> Result<i64, NotRational> {
    let digits = text.strip_prefix(MINUS).or_else(|| text.strip_prefix('+')).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotRational::Syntax);
    }
    let size = digits.parse().ok().filter(|&size: &i64| size <= MAX_EXPONENT).ok_or(NotRational::TooLarge)?;
    Ok(if text.starts_with(MINUS) { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn equal(a: &str, b: &str) -> bool {
        let read = |text| Rational::parse(text).unwrap_or_else(|error| panic!("`{text}`: {error:?}"));
        read(a) == read(b)
    }

    #[test]
    fn one_value_many_spellings() {
        for (a, b) in [
            ("3.0", "3"),
            ("3.", "3"),
            ("007", "7"),
            (".5", "1/2"),
            ("2/4", "0.5"),
            ("1/3", "2 / 6"),
            ("0.1/0.3", "1/3"),
            ("-0", "0"),
            ("+5", "5"),
            ("\u{2212}5", "-5"),
            ("$5", "5"),
            ("-$5", "-5"),
            ("\\$5", "5"),
            ("5 €", "5"),
            ("50%", "0.5"),
            ("50 \\%", "1/2"),
            ("1,234,567", "1234567"),
            ("1,234.50", "1234.5"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("2e+2", "200"),
            ("1e400", "10e399"),
            ("0e9", "0"),
        ] {
            assert!(equal(a, b), "{a} should equal {b}");
        }
    }

    #[test]
    fn different_values_differ() {
        for (a, b) in [
            ("1/2", "2"),
            ("50%", "50"),
            ("5", "-5"),
            ("1/3", "0.3333333333333333333333"),
            ("9007199254740993", "9007199254740992"),
            ("1e400", "1e401"),
            ("0.30000000000000004", "0.3"),
        ] {
            assert!(!equal(a, b), "{a} should differ from {b}");
        }
    }

    #[test]
    fn what_is_not_a_number() {
        for text in [
            "", "-", ".", "e5", "1e", "1 2", "12,34", "0,111", "1,2345", ",123", "1,234,", "1.2.3", "1/0",
            "1/2/3", "--5", "5x", "0x10", "1_000", "½", "٣", "inf", "nan", "%", "$", "/2", "1/", "1.234,5",
        ] {
            assert_eq!(Rational::parse(text).err(), Some(NotRational::Syntax), "`{text}`");
        }
    }

    #[test]
    fn budgets() {
        let nines = "9".repeat(MAX_DIGITS);
        assert!(equal(&format!("{nines}/{nines}"), "1"));
        assert_eq!(Rational::parse(&format!("{nines}9")).err(), Some(NotRational::TooLarge));
        assert_eq!(Rational::parse("1e99999999999999999999").err(), Some(NotRational::TooLarge));
        assert!(equal(&"0".repeat(10 * MAX_DIGITS), "0"));
    }

    proptest! {
        #[test]
        fn equality_is_that_of_cross_products(
            a in -99_i64..99, b in 1_i64..99, c in -99_i64..99, d in 1_i64..99,
        ) {
            prop_assert_eq!(equal(&format!("{a}/{b}"), &format!("{c}/{d}")), a * d == c * b);
        }

        #[test]
        fn expanding_a_fraction_keeps_its_value(a: i64, b in 1_i64.., k in 1_i128..1_000_000) {
            let expanded = format!("{}/{}", i128::from(a) * k, i128::from(b) * k);
            prop_assert!(equal(&format!("{a}/{b}"), &expanded), "{}", expanded);
        }

        #[test]
        fn total(text in "[-+0-9.,/eE%$ ]{0,24}") {
            if let Ok(number) = Rational::parse(&text) {
                prop_assert_eq!(&number, &number);
            }
        }
    }
}
