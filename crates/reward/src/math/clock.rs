//! Times of day with their half: `3:45 PM`, `10:30\text{ a.m.}`, `3 p.m.`

use super::expr::Expr;
use super::units::Unit;

/// A time has no more characters than this, its LaTeX included.
const MAX_LENGTH: usize = 60;

/// The time that `text` states in whole: hours and minutes as a ratio, or hours alone, before or after noon.
pub(crate) fn time_of_day(text: &str) -> Option<Expr> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let mut plain = text.to_lowercase();
    for markup in ["\\text", "\\mathrm", "\\textrm", "\\mbox", "\\(", "\\)", "\\!", "\\,", "\\;", "\\:"] {
        plain = plain.replace(markup, " ");
    }
    plain.retain(|c| !c.is_whitespace() && !"$~{}.\\*".contains(c));
    let (time, unit) = match (plain.strip_suffix("am"), plain.strip_suffix("pm")) {
        (Some(time), _) => (time, Unit::Am),
        (_, Some(time)) => (time, Unit::Pm),
        _ => return None,
    };
    let number = |digits: &str, least: i64, most: i64| {
        let is_short = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number| is_short && (least..=most).contains(number)).map(Expr::integer)
    };
    let value = match time.split_once(':') {
        // Not the bare number, which `2 AM`, twice a segment, would then equal.
        None => Expr::Ratio(vec![number(time, 1, 12)?]),
        Some((hours, minutes)) if minutes.len() == 2 => {
            Expr::Ratio(vec![number(hours, 1, 12)?, number(minutes, 0, 59)?])
        }
        Some(_) => return None,
    };
    Some(Expr::Quantity(Box::new(value), unit))
}
