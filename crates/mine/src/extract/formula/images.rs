//! Formulas that are images: their LaTeX is in the alternative text, or in the address.

use std::borrow::Cow;

use super::delimited::looks_like_tex;
use super::{Formula, without_delimiters};
use crate::extract::dom::{Dom, Id};
use crate::extract::tags::Tag;

/// Bytes of an address that are read.
const LONGEST_ADDRESS: usize = 8192;
/// Parameters of addresses that hold LaTeX.
const PARAMETERS: &[&str] =
    &["latex", "tex", "math", "formula", "eq", "equation", "chl", "from", "expr", "eqn", "f"];
/// Commands about size and colour, which services take at the beginning, without and with an argument.
const LOOKS: &[&str] = &[
    "\\inline",
    "\\bg_white",
    "\\bg_black",
    "\\bg_transparent",
    "\\displaystyle ",
    "\\fn_cm",
    "\\fn_jvn",
    "\\fn_cs",
    "\\fn_phv",
    "\\tiny",
    "\\small",
    "\\large",
    "\\Large",
    "\\LARGE",
    "\\huge",
    "\\opaque",
    "\\normalsize",
];
const LOOKS_OF: &[&str] = &["\\dpi", "\\bg", "\\fn", "\\color", "\\fg"];

/// The formula that an image shows.
pub(super) fn formula(dom: &Dom<'_>, id: Id) -> Option<Formula> {
    let source = ["src", "data-src", "data-lazy-src", "data-original", "data-orig-src"]
        .iter()
        .filter_map(|name| dom.attribute(id, name))
        .find(|source| !source.starts_with("data:"));
    let address = source.unwrap_or_default();
    let address = address.get(..address.len().min(LONGEST_ADDRESS)).unwrap_or("");
    let marked = dom.classes(id).any(is_formula_class) || dom.raw_attribute(id, "eeimg").is_some();
    let service = is_service(address);
    let display = is_display(dom, id);
    if let Some(tex) = service.then(|| in_address(address)).flatten() {
        return Formula::new(&without_looks(&tex), display && !tex.contains("\\inline"));
    }
    for name in ["alt", "title", "data-alt", "data-tex", "data-latex"] {
        let Some(text) = dom.attribute(id, name) else { continue };
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST_ADDRESS {
            continue;
        }
        let (inner, delimited) = without_delimiters(text);
        let strong = looks_like_tex(inner, false) && inner.contains('\\');
        if delimited.is_some() && looks_like_tex(inner, true)
            || strong
            || (marked || service) && looks_like_tex(inner, true)
        {
            return Formula::new(&without_looks(text), display);
        }
    }
    None
}

/// Whether a class marks images of formulas.
fn is_formula_class(class: &str) -> bool {
    let class = class.to_ascii_lowercase();
    matches!(class.as_str(), "tex" | "eq" | "eqn")
        || ["latex", "math", "formula", "equation", "texrender", "teximage", "mimetex"]
            .iter()
            .any(|mark| class.contains(mark))
}

/// Whether an address is of a program that draws LaTeX.
fn is_service(address: &str) -> bool {
    let place = address.split('?').next().unwrap_or("").to_ascii_lowercase();
    [
        "latex",
        "mimetex",
        "mathtex",
        "tex.cgi",
        "codecogs",
        "/tex",
        "equation",
        "formula",
        "/math",
        "math.",
        "chart",
        "texrender",
        "upmath",
        "/eq",
        "tex.",
    ]
    .iter()
    .any(|mark| place.contains(mark))
}

/// The LaTeX in the address of an image.
fn in_address(address: &str) -> Option<Cow<'_, str>> {
    let formula =
        |tex: Cow<'static, str>| (looks_like_tex(without_delimiters(tex.trim()).0, true)).then_some(tex);
    if let Some((place, query)) = address.split_once('?') {
        let query = query.split('#').next().filter(|_| !query.contains("%23")).unwrap_or(query);
        for pair in query.split('&') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            if PARAMETERS.contains(&name.to_ascii_lowercase().as_str())
                && (name != "chl" || query.contains("cht=tx"))
            {
                let tex = unescape(value, true);
                if looks_like_tex(without_delimiters(tex.trim()).0, true) {
                    return Some(tex.into());
                }
            }
        }
        // `latex.codecogs.com/gif.latex?x^2`: the whole query is the formula, and `+` is a plus.
        let place = place.to_ascii_lowercase();
        if ["latex", "mimetex", "mathtex", "tex.cgi", "codecogs", "math", "equation", "tex"]
            .iter()
            .any(|mark| place.contains(mark))
        {
            let query = query.replace("&space;", " ").replace("&plus;", "+").replace("&amp;", "&");
            return formula(unescape(&query, false).into());
        }
        return None;
    }
    // `i.upmath.me/svg/x%5E2`.
    let last = address.rsplit('/').next()?;
    let tex = unescape(last, false);
    (last.contains('%') && tex.contains(['\\', '^', '_', '=']) && looks_like_tex(&tex, false))
        .then(|| tex.into())
}

/// `text` with its `%5E` replaced, and `+` where it stands for a blank.
fn unescape(text: &str, plus_is_blank: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|&b| (b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) if plus_is_blank => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `tex` without commands about its look at the beginning.
fn without_looks(tex: &str) -> String {
    let mut tex = tex.trim();
    loop {
        let before = tex;
        for look in LOOKS {
            if let Some(rest) = tex.strip_prefix(look)
                && (!rest.starts_with(|c: char| c.is_ascii_alphabetic()) || look.ends_with(' '))
            {
                tex = rest.trim_start();
            }
        }
        for look in LOOKS_OF {
            if let Some((_, rest)) = tex
                .strip_prefix(look)
                .and_then(|rest| rest.strip_prefix('{'))
                .and_then(|rest| rest.split_once('}'))
            {
                tex = rest.trim_start();
            }
        }
        if tex == before {
            return tex.to_owned();
        }
    }
}

/// Whether the image is set on a line of its own, by its class or because nothing is beside it.
fn is_display(dom: &Dom<'_>, id: Id) -> bool {
    let class = dom.classes(id).any(|class| {
        let class = class.to_ascii_lowercase();
        class.contains("display")
            || class.contains("block")
            || class.ends_with("dsp")
            || class.contains("latexcenter")
    });
    if class || dom.classes(id).any(|class| class.contains("inline")) {
        return class;
    }
    let parent = dom.parent(id);
    matches!(dom.tag(parent), Tag::Div | Tag::P | Tag::Center | Tag::Td)
        && dom.children(parent).take(4).all(|child| {
            child == id
                || dom.tag(child) == Tag::Br
                || dom.tag(child) == Tag::Text && dom.raw_text(child).trim().len() <= 1
        })
}
