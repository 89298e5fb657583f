//! LaTeX as pages have it, made a formula of one line without delimiters.

/// LaTeX on one line, without comments and the marks that pages put around it.
pub(super) fn tidy(tex: &str) -> String {
    let mut lines = String::with_capacity(tex.len());
    for line in tex.split('\n') {
        let mut end = line.len();
        for (at, _) in line.match_indices('%') {
            if !line[..at].ends_with('\\') {
                // A comment ends with its line; a formula that came on one line has none.
                if tex.contains('\n') {
                    end = at;
                }
                break;
            }
        }
        for word in line[..end].split_whitespace() {
            if !lines.is_empty() {
                lines.push(' ');
            }
            lines.push_str(word);
        }
    }
    lines.retain(|c| !c.is_control());
    let tex = lines.trim();
    // `\` at the end of what was trimmed is a blank that was escaped.
    let tex =
        if tex.ends_with('\\') && !tex.ends_with("\\\\") { tex[..tex.len() - 1].trim_end() } else { tex };
    let tex = in_display_style(tex).unwrap_or(tex);
    if lone_dollar(tex) { String::new() } else { tex.to_owned() }
}

/// What is inside of `{\\displaystyle ...}`, as encyclopaedias write around every formula.
fn in_display_style(tex: &str) -> Option<&str> {
    let inner = tex.strip_prefix("{\\displaystyle")?.strip_suffix('}')?;
    let mut depth = 0_usize;
    let mut escaped = false;
    for byte in inner.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            // The brace at the beginning ends before the end.
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0 && inner.starts_with([' ', '{', '\\'])).then_some(inner.trim())
}

/// Whether a dollar in the formula would end it: one outside of braces that is not escaped.
fn lone_dollar(tex: &str) -> bool {
    let mut depth = 0_usize;
    let mut escaped = false;
    for byte in tex.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'$' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// `tex` without delimiters around all of it, and whether these display it.
pub(super) fn without_delimiters(tex: &str) -> (&str, Option<bool>) {
    for (open, close, display) in [
        ("$$", "$$", true),
        ("\\[", "\\]", true),
        ("\\(", "\\)", false),
        ("$", "$", false),
        ("\\begin{equation}", "\\end{equation}", true),
        ("\\begin{equation*}", "\\end{equation*}", true),
        ("\\begin{displaymath}", "\\end{displaymath}", true),
        ("\\begin{math}", "\\end{math}", false),
    ] {
        if let Some(inner) = tex.strip_prefix(open).and_then(|tex| tex.strip_suffix(close)) {
            // `\(a\) and \(b\)` is no formula as a whole.
            if !inner.contains(close) {
                return (inner, Some(display));
            }
        }
    }
    (tex, None)
}
