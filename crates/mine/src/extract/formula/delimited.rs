//! Formulas between delimiters in running text: `\(...\)`, `$...$`, the page's own, bare environments.

use memchr::{memchr, memmem};

use super::setup::{Pair, Setup};
use super::{Formula, Output, ascii_math};

/// Marks the beginning of text in which no delimiter counts: code, a formula that was read already.
pub(crate) const SHIELD: char = '\u{1}';
/// Marks its end.
pub(crate) const UNSHIELD: char = '\u{2}';

/// Bytes in which the end of an environment is looked for.
const LONGEST_ENVIRONMENT: usize = 1 << 16;
/// Environments whose content is a formula without them.
const PLAIN: &[&str] = &["equation", "displaymath", "math"];
/// Environments that are formulas of their own.
const ENVIRONMENTS: &[&str] = &[
    "align",
    "alignat",
    "aligned",
    "array",
    "cases",
    "eqnarray",
    "flalign",
    "gather",
    "gathered",
    "multline",
    "split",
    "matrix",
    "pmatrix",
    "bmatrix",
    "vmatrix",
    "Bmatrix",
    "Vmatrix",
    "dmath",
    "subequations",
    "CD",
    "IEEEeqnarray",
    "xalignat",
    "tikzcd",
];

/// `text` with the formulas between delimiters in the form of the output, and without shields.
pub(crate) fn typeset(text: &str, setup: &Setup, output: &mut Output) -> String {
    let mut done = String::with_capacity(text.len() + 16);
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    // Ends that are known not to come any more; so an opener without an end costs one search, not one each.
    let mut missing: Vec<&str> = Vec::new();
    while at < bytes.len() {
        let next = bytes[at..].iter().position(|&b| output.may_open[b as usize]);
        let Some(next) = next else { break };
        at += next;
        if bytes[at] == SHIELD as u8 {
            done.push_str(&text[copied..at]);
            let end = memchr(UNSHIELD as u8, &bytes[at..]).map_or(bytes.len(), |end| at + end);
            done.push_str(&text[at + 1..end]);
            at = (end + 1).min(bytes.len());
            copied = at;
            continue;
        }
        match formula_at(text, at, setup, output, &mut missing) {
            Found::Formula(formula, end) => {
                done.push_str(&text[copied..at]);
                output.write(&formula, &mut done);
                at = end;
                copied = at;
            }
            Found::Skip(length) => at += length,
        }
    }
    done.push_str(&text[copied.min(text.len())..]);
    // Delimiters of the page's own may be characters of shields.
    if done.contains([SHIELD, UNSHIELD]) {
        done.retain(|c| c != SHIELD && c != UNSHIELD);
    }
    done
}

enum Found {
    /// A formula, and where the text goes on.
    Formula(Formula, usize),
    /// None: these bytes are text.
    Skip(usize),
}

fn formula_at<'s>(
    text: &str,
    at: usize,
    setup: &'s Setup,
    output: &mut Output,
    missing: &mut Vec<&'s str>,
) -> Found {
    let rest = &text[at..];
    if rest.starts_with("\\begin{") {
        return environment(rest, &mut output.work)
            .map_or(Found::Skip(1), |(formula, length)| Found::Formula(formula, at + length));
    }
    if rest.starts_with("\\$") {
        return Found::Skip(2);
    }
    if setup.ascii_math && rest.starts_with('`') {
        if let Some(length) = memchr(b'`', &rest.as_bytes()[1..]) {
            let inner = &rest[1..=length];
            if !inner.is_empty() && length <= output.longest && !inner.contains([SHIELD, UNSHIELD]) {
                return Found::Formula(
                    Formula { tex: ascii_math::to_latex(inner), display: false },
                    at + length + 2,
                );
            }
        }
        return Found::Skip(1);
    }
    for pair in &setup.pairs {
        if !rest.starts_with(pair.open.as_str()) {
            continue;
        }
        if missing.contains(&pair.close.as_str()) {
            continue;
        }
        let inner = &rest[pair.open.len()..];
        if output.work == 0 {
            return Found::Skip(1);
        }
        match close(inner, &pair.close, output.longest, &mut output.work) {
            End::At(length) => {
                let tex = &inner[..length];
                if accepts(
                    pair,
                    tex,
                    &inner[length + pair.close.len()..],
                    text[..at].chars().next_back(),
                    setup,
                ) {
                    let formula = Formula { tex: tex.to_owned(), display: pair.display };
                    return Found::Formula(formula, at + pair.open.len() + length + pair.close.len());
                }
            }
            End::Never => missing.push(&pair.close),
            End::Far => {}
        }
        if pair.open.len() > 1 {
            return Found::Skip(pair.open.len());
        }
    }
    Found::Skip(1)
}

enum End {
    At(usize),
    /// Not before a formula would be too long, or not before text that is no formula's.
    Far,
    /// Not in the rest of the text.
    Never,
}

/// Where the end of a formula is: not inside of braces, not escaped.
fn close(inner: &str, end: &str, longest: usize, work: &mut usize) -> End {
    let bytes = inner.as_bytes();
    let end_bytes = end.as_bytes();
    let first = end_bytes[0];
    let mut depth = 0_usize;
    let mut at = 0;
    let limit = bytes.len().min(longest);
    let mut met = false;
    while at < limit {
        let byte = bytes[at];
        if byte == first && bytes[at..].starts_with(end_bytes) {
            met = true;
            if depth == 0 {
                *work = work.saturating_sub(at);
                return End::At(at);
            }
        }
        match byte {
            // A backslash before a shield escapes nothing.
            b'\\' if !matches!(bytes.get(at + 1), Some(1 | 2)) => at += 1,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            1 | 2 => break,
            _ => {}
        }
        at += 1;
    }
    *work = work.saturating_sub(at);
    if met || limit < bytes.len() && memmem::find(&bytes[at.min(bytes.len())..], end_bytes).is_some() {
        End::Far
    } else {
        End::Never
    }
}

/// Whether what stands between the delimiters is a formula.
fn accepts(pair: &Pair, tex: &str, behind: &str, before: Option<char>, setup: &Setup) -> bool {
    let tex_trimmed = tex.trim();
    if tex_trimmed.is_empty() {
        return false;
    }
    match pair.open.as_str() {
        "$" => {
            let spaced = tex.starts_with(char::is_whitespace) || tex.ends_with(char::is_whitespace);
            let digit_behind = behind.starts_with(|c: char| c.is_ascii_digit());
            let word_before = before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '$');
            if setup.dollars {
                return !(digit_behind || word_before) || looks_like_tex(tex_trimmed, true);
            }
            !spaced && !digit_behind && !word_before && looks_like_tex(tex_trimmed, setup.loaded)
        }
        "$$" => setup.loaded || looks_like_tex(tex_trimmed, false),
        // Regular expressions and groups of `sed` look the same.
        "\\(" | "\\[" => setup.loaded || looks_like_tex(tex_trimmed, true),
        _ => true,
    }
}

/// Whether `tex` has what formulas have and prose between two prices has not. `lenient`: a letter or a number will do.
pub(crate) fn looks_like_tex(tex: &str, lenient: bool) -> bool {
    let mut command = false;
    let mut relation = false;
    let mut script = false;
    let mut words = 0;
    let mut letters = 0;
    let mut previous = ' ';
    let mut in_command = false;
    for character in tex.chars() {
        match character {
            c if c.is_alphabetic() => {
                if in_command {
                    command = true;
                    continue;
                }
                letters += 1;
                if letters == 3 {
                    words += 1;
                }
                previous = character;
                continue;
            }
            '^' | '_' => script |= !previous.is_whitespace(),
            '=' | '<' | '>' | '+' | '≤' | '≥' | '≠' | '∈' | '→' | '∑' | '∫' | '√' | '×' => {
                relation = true;
            }
            _ => {}
        }
        in_command = character == '\\';
        letters = 0;
        previous = character;
    }
    if command || script {
        return words <= 12 || tex.contains("\\text") || tex.contains("\\frac");
    }
    if relation {
        return words <= 2;
    }
    let length = tex.chars().count();
    lenient && words == 0 && length <= 24 && tex.chars().any(char::is_alphanumeric)
}

/// The formula of the environment that begins `rest`, and its length.
fn environment(rest: &str, work: &mut usize) -> Option<(Formula, usize)> {
    let name_end = rest.get(..40).unwrap_or(rest).find('}')?;
    let name = &rest["\\begin{".len()..name_end];
    let bare = name.trim_end_matches('*');
    let plain = PLAIN.contains(&bare);
    if !plain && !ENVIRONMENTS.contains(&bare) {
        return None;
    }
    let end = format!("\\end{{{name}}}");
    let window = rest.len().min(LONGEST_ENVIRONMENT).min(*work);
    let found = memmem::find(&rest.as_bytes()[..window], end.as_bytes());
    *work -= found.unwrap_or(window);
    let length = found?;
    let whole = length + end.len();
    let tex = if plain { &rest[name_end + 1..length] } else { &rest[..whole] };
    if tex.contains([SHIELD, UNSHIELD]) || tex.trim().is_empty() {
        return None;
    }
    Some((Formula { tex: tex.to_owned(), display: true }, whole))
}
