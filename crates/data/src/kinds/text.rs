//! Numbers and lists as problems write them.

/// The greatest common divisor of the absolute values; that of 0 and `a` is `a`.
pub(super) fn gcd_of(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd_of(b, a % b) }
}

/// A fraction: numerator and denominator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fraction(pub(super) i64, pub(super) i64);

impl Fraction {
    /// In lowest terms, the denominator positive; it must not be 0.
    pub(super) fn new(numerator: i64, denominator: i64) -> Self {
        let shared = gcd_of(numerator, denominator) * denominator.signum();
        Self(numerator / shared, denominator / shared)
    }

    /// `a/b`, or the whole number that it is.
    pub(super) fn text(self) -> String {
        if self.1 == 1 { self.0.to_string() } else { self.over() }
    }

    /// `a/b`, also where that is a whole number.
    pub(super) fn over(self) -> String {
        format!("{}/{}", self.0, self.1)
    }
}

/// A number as an operand: in parentheses where negative.
pub(super) fn operand(number: i64) -> String {
    if number < 0 { format!("({number})") } else { number.to_string() }
}

/// `value / 10^places`, without zeros at the end.
pub(super) fn decimal(value: i64, places: usize) -> String {
    let digits = format!("{:0width$}", value.abs(), width = places + 1);
    let (whole, rest) = digits.split_at(digits.len() - places);
    let rest = rest.trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    format!("{}{whole}{point}{rest}", if value < 0 { "-" } else { "" })
}

/// `items` as people list them: `a, b and c`.
pub(super) fn list(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(Fraction::new(6, -4).text(), "-3/2");
        assert_eq!((Fraction::new(-8, -4).text(), Fraction(0, 5).over()), ("2".to_owned(), "0/5".to_owned()));
        let decimals =
            [(1234, 2), (-5, 2), (700, 2), (0, 1), (10, 1)].map(|(value, places)| decimal(value, places));
        assert_eq!(decimals, ["12.34", "-0.05", "7", "0", "1"]);
        assert_eq!(
            (operand(-3), list(&[1, 2, 3]), list(&["a"])),
            ("(-3)".into(), "1, 2 and 3".into(), "a".into())
        );
    }
}
