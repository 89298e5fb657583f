//! How a page says that its formulas are marked: the configuration of MathJax, KaTeX or ASCIIMathML in its scripts.

use memchr::memmem;

use crate::extract::dom::Dom;
use crate::extract::tags::Tag;

/// Bytes of scripts that are searched for a configuration, in all.
const MOST_SCRIPT: usize = 1 << 20;
/// Lists of delimiters that are read of one script.
const MOST_LISTS: usize = 16;
/// Pairs of delimiters that are read of one list.
const MOST_PAIRS: usize = 16;

/// The two ends of a formula in running text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) open: String,
    pub(crate) close: String,
    pub(crate) display: bool,
}

/// How formulas stand in the text of a page.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "four findings that do not depend on one another")]
pub(crate) struct Setup {
    /// Delimiters, the longest first.
    pub(crate) pairs: Vec<Pair>,
    /// Whether a program that typesets formulas is loaded.
    pub(crate) loaded: bool,
    /// Whether the page itself says that `$` is a delimiter.
    pub(crate) dollars: bool,
    /// Whether backquotes hold AsciiMath.
    pub(crate) ascii_math: bool,
    /// Whether `<script type="math/tex">` holds the source of what is typeset.
    pub(crate) math_scripts: bool,
}

impl Setup {
    /// What the scripts of the page say.
    pub(crate) fn of(dom: &Dom<'_>) -> Self {
        let mut setup = Self::default();
        let mut budget = MOST_SCRIPT;
        let mut katex = false;
        for id in 0..dom.nodes.len() {
            match dom.tag(id) {
                Tag::Script => {
                    let address = dom.raw_attribute(id, "src").unwrap_or("");
                    let kind = dom.raw_attribute(id, "type").unwrap_or("");
                    if is_math_script(kind) {
                        setup.math_scripts = true;
                        setup.loaded = true;
                        continue;
                    }
                    setup.note(address);
                    katex |= names(address, "katex");
                    for child in dom.children(id) {
                        let script = dom.raw_text(child);
                        if script.len() <= budget {
                            budget -= script.len();
                            setup.note(script);
                            katex |= names(script, "katex") || names(script, "renderMathInElement");
                            setup.read(script);
                        }
                    }
                }
                Tag::Link => {
                    let address = dom.raw_attribute(id, "href").unwrap_or("");
                    katex |= names(address, "katex");
                    setup.note(address);
                }
                Tag::MjxContainer => setup.loaded = true,
                _ => {}
            }
        }
        setup.loaded |= katex;
        for (open, close, display) in
            [("$$", "$$", true), ("\\[", "\\]", true), ("\\(", "\\)", false), ("$", "$", false)]
        {
            setup.add(open, close, display);
        }
        setup.pairs.sort_by_key(|pair| std::cmp::Reverse(pair.open.len()));
        setup
    }

    /// Notes which programs a script or its address names.
    fn note(&mut self, text: &str) {
        self.loaded |= names(text, "mathjax")
            || names(text, "MathJax")
            || names(text, "jsMath")
            || names(text, "latexit");
        if names(text, "ASCIIMath")
            || names(text, "asciimath")
            || names(text, "AM_HTMLorMML")
            || names(text, "AM_CHTML")
            || names(text, "AM_SVG")
        {
            self.ascii_math = true;
            self.loaded = true;
        }
    }

    fn add(&mut self, open: &str, close: &str, display: bool) {
        if self.pairs.iter().all(|pair| pair.open != open) {
            self.pairs.push(Pair { open: open.into(), close: close.into(), display });
        }
    }

    /// Reads the delimiters that a script sets.
    fn read(&mut self, script: &str) {
        for (key, display) in [("inlineMath", false), ("displayMath", true), ("delimiters", false)] {
            for at in memmem::find_iter(script.as_bytes(), key.as_bytes()).take(MOST_LISTS) {
                let Some(list) = list_behind(&script[at + key.len()..]) else { continue };
                let found =
                    if key == "delimiters" { katex_pairs(list) } else { mathjax_pairs(list, display) };
                for pair in found {
                    self.loaded = true;
                    if pair.open == "`" {
                        self.ascii_math = true;
                        continue;
                    }
                    self.dollars |= pair.open == "$";
                    self.add(&pair.open, &pair.close, pair.display);
                }
            }
        }
    }
}

/// Whether a script of this type is a formula.
pub(crate) fn is_math_script(kind: &str) -> bool {
    kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("math/"))
        || ["text/tex", "text/latex", "application/x-tex", "text/asciimath"]
            .iter()
            .any(|name| kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

fn names(text: &str, name: &str) -> bool {
    memmem::find(text.as_bytes(), name.as_bytes()).is_some()
}

/// The list that is the value of the key in front of `text`: from its `[` to the `]` that matches.
fn list_behind(text: &str) -> Option<&str> {
    let value = text.trim_start_matches(['"', '\'', ' ', '\t', '\n', '\r']);
    let value = value.strip_prefix([':', '='])?.trim_start();
    // MathJax 3 adds to its defaults by `{'[+]': [['$', '$']]}`.
    let value = match value.strip_prefix('{') {
        Some(inner) => inner[inner.find(':')?..].strip_prefix(':')?.trim_start(),
        None => value,
    };
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in value.char_indices().take(4096) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) => {
                if character == open {
                    quote = None;
                }
            }
            None => match character {
                '"' | '\'' | '`' => quote = Some(character),
                '[' => depth += 1,
                ']' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(&value[..at]);
                    }
                }
                _ if depth == 0 => return None,
                _ => {}
            },
        }
    }
    None
}

/// The strings of a list in JavaScript, each with the name before it: `left: "$$"`.
fn strings(list: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = list;
    while let Some(open) = rest.find(['"', '\'', '`']) {
        let quote = rest.as_bytes()[open] as char;
        let before = rest[..open].trim_end();
        let name = before.strip_suffix(':').map_or("", |name| {
            let name = name.trim_end().trim_end_matches(['"', '\'']);
            name.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("")
        });
        let mut value = String::new();
        let mut characters = rest[open + 1..].char_indices();
        let mut end = None;
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, character)| character)),
                _ if character == quote => {
                    end = Some(open + 2 + at);
                    break;
                }
                _ => value.push(character),
            }
        }
        let Some(end) = end else { break };
        found.push((name, value));
        rest = &rest[end..];
        if found.len() >= 4 * MOST_PAIRS {
            break;
        }
    }
    found
}

/// `[["$", "$"], ["\\(", "\\)"]]`.
fn mathjax_pairs(list: &str, display: bool) -> Vec<Pair> {
    let strings = strings(list);
    let pairs = strings.chunks_exact(2).map(|ends| (ends[0].1.clone(), ends[1].1.clone(), display));
    sound(pairs)
}

/// `[{left: "$$", right: "$$", display: true}, ...]`.
fn katex_pairs(list: &str) -> Vec<Pair> {
    let pairs = list.split('{').skip(1).filter_map(|entry| {
        let entry = entry.split('}').next().unwrap_or(entry);
        let strings = strings(entry);
        let value = |name: &str| strings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let display = entry
            .split("display")
            .nth(1)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ':', ' ']).starts_with("true"));
        Some((value("left")?, value("right")?, display))
    });
    // Braces are rare in delimiters; where an entry has them it is not read.
    sound(pairs)
}

/// Those pairs that can be told from text.
fn sound(pairs: impl Iterator<Item = (String, String, bool)>) -> Vec<Pair> {
    pairs
        .filter(|(open, close, _)| {
            let usable = |end: &str| {
                !end.is_empty()
                    && end.len() <= 16
                    && !end.chars().all(char::is_alphanumeric)
                    && !end.contains('\n')
            };
            // An environment is one by itself.
            usable(open) && usable(close) && !open.starts_with("\\begin")
        })
        .take(MOST_PAIRS)
        .map(|(open, close, display)| Pair { open, close, display })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Setup;
    use crate::extract::dom::Dom;

    fn setup(page: &str) -> Setup {
        Setup::of(&Dom::parse(page, &crate::extract::Limits::default()))
    }

    fn has(setup: &Setup, open: &str, close: &str, display: bool) -> bool {
        setup.pairs.iter().any(|pair| pair.open == open && pair.close == close && pair.display == display)
    }

    #[test]
    fn configurations_of_every_version_are_read() {
        let two = setup(
            r#"<script type="text/x-mathjax-config">MathJax.Hub.Config({tex2jax: {inlineMath: [ ['$','$'], ["\\(","\\)"] ], displayMath: [ ['$$','$$'] ]}});</script>"#,
        );
        assert!(two.loaded && two.dollars && has(&two, "$", "$", false) && has(&two, "$$", "$$", true));
        let forum = setup(
            r"<script>window.MathJax = {tex: {inlineMath: [['##', '##']], displayMath: [['[tex]', '[/tex]'], ['[;;', ';;]']]}}</script>",
        );
        assert!(
            has(&forum, "##", "##", false)
                && has(&forum, "[tex]", "[/tex]", true)
                && has(&forum, "[;;", ";;]", true)
                && !forum.dollars
        );
        let three = setup(r"<script>MathJax = { tex: { inlineMath: {'[+]': [['$', '$']]} } };</script>");
        assert!(three.dollars);
        let katex = setup(
            r#"<script>renderMathInElement(document.body, {"delimiters": [{left: "$$", right: "$$", display: true}, {"left": "\\(", "right": "\\)", "display": false}, {left: '%%', right: '%%', display: false}]});</script>"#,
        );
        assert!(katex.loaded && has(&katex, "%%", "%%", false) && has(&katex, "$$", "$$", true));
        assert!(setup(r#"<script src="https://cdn.example/ASCIIMathML.js"></script>"#).ascii_math);
        assert!(!setup("<script>var delimiters = [';'];</script><p>$5 and $6").loaded);
    }
}
