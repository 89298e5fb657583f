//! LaTeX and plain notation to tokens. Spacing, sizes, fonts and `$` mean nothing and are dropped; every
//! spelling of a sign becomes one character.

use super::expr::{Function, Number};
use super::{commands, numeral};

/// A longer candidate is not read.
pub(crate) const MAX_LENGTH: usize = 4096;

/// Text within text within text is read this deep.
const MAX_TEXT_DEPTH: usize = 4;

/// A token, and whether white space stood before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) spaced: bool,
}

/// The smallest part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Number(Number),
    /// A name of one letter, or a Greek one.
    Symbol(String),
    Function(Function),
    /// Letters that stand together and mean nothing known: a word, or a product of variables.
    Word(String),
    /// What stands in `\text{…}`.
    Text(String),
    /// An operator, bracket, relation or separator. `⦃⦄` are the braces of a set, `{}` those that only
    /// group; `⏎` ends a row.
    Sign(char),
    /// `frac`, `sqrt`, `binom`, `accent`, `exp`, `numbers`, `sum`, `int`: what has an argument of its own kind.
    Command(&'static str),
    Begin(String),
    End,
}

/// The tokens of `text`, or why it has none.
pub(crate) fn tokens(text: &str) -> Result<Vec<Lexeme>, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let mut lexer = Lexer { rest: text, lexemes: Vec::new(), spaced: false, brackets: 0, text_depth: 0 };
    lexer.run()?;
    let mut lexemes = lexer.lexemes;
    remove_alignment(&mut lexemes);
    Ok(lexemes)
}

struct Lexer<'a> {
    rest: &'a str,
    lexemes: Vec<Lexeme>,
    spaced: bool,
    /// Open `(`, `[` and `\{`.
    brackets: usize,
    text_depth: usize,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.chars().next() {
            if c == '\\' {
                self.command()?;
            } else if c.is_ascii_digit() || c == '.' && numeral::is_fraction(&self.rest[1..]) {
                let (number, length) = numeral::read(self.rest, self.brackets > 0);
                self.rest = &self.rest[length.max(1)..];
                self.push(Token::Number(number));
            } else if c.is_ascii_alphabetic() {
                let run = self.take_while(|c| c.is_ascii_alphabetic());
                self.letters(run);
            } else {
                self.rest = &self.rest[c.len_utf8()..];
                self.character(c)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, token: Token) {
        match token {
            Token::Sign('(' | '[' | '⦃') => self.brackets += 1,
            Token::Sign(')' | ']' | '⦄') => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.lexemes.push(Lexeme { token, spaced: self.spaced });
        self.spaced = false;
    }

    fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !test(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn character(&mut self, c: char) -> Result<(), String> {
        let token = match c {
            c if c.is_whitespace() || "$~`\"\u{200b}\u{feff}".contains(c) => {
                self.spaced = true;
                return Ok(());
            }
            '*' if self.rest.starts_with('*') => {
                self.rest = &self.rest[1..];
                // Markdown's bold at the start or end, a power elsewhere.
                if self.lexemes.is_empty() || self.rest.trim().is_empty() {
                    return Ok(());
                }
                Token::Sign('^')
            }
            '.' if self.rest.starts_with("..") => {
                self.rest = &self.rest[2..];
                Token::Sign('…')
            }
            '.' | '。' | '．' => return Ok(()),
            '<' | '>' | '!' | '=' if c == '=' || self.rest.starts_with('=') => {
                let next = self.rest.chars().next();
                let (sign, extra) = match (c, next) {
                    ('<', _) => ('≤', 1),
                    ('>', _) => ('≥', 1),
                    ('!', _) => ('≠', 1),
                    (_, Some('=')) => ('=', 1),
                    (_, Some('>')) => ('⇒', 1),
                    _ => ('=', 0),
                };
                self.rest = &self.rest[extra..];
                Token::Sign(sign)
            }
            '-' if self.rest.starts_with('>') => {
                self.rest = &self.rest[1..];
                Token::Sign('⇒')
            }
            '\u{2212}' | '–' | '—' | '－' => Token::Sign('-'),
            '×' | '·' | '⋅' | '∙' | '•' | '∗' | '✕' | '✖' | '⨯' | '＊' => Token::Sign('*'),
            '÷' | '∕' | '⁄' => Token::Sign('/'),
            '⩽' | '≦' => Token::Sign('≤'),
            '⩾' | '≧' => Token::Sign('≥'),
            '≅' | '≃' | '∼' => Token::Sign('≈'),
            '，' | '、' => Token::Sign(','),
            '；' => Token::Sign(';'),
            '：' | '∶' => Token::Sign(':'),
            '％' => Token::Sign('%'),
            '＋' => Token::Sign('+'),
            '＝' => Token::Sign('='),
            '＜' => Token::Sign('<'),
            '＞' => Token::Sign('>'),
            '［' => Token::Sign('['),
            '］' => Token::Sign(']'),
            '（' => Token::Sign('('),
            '）' => Token::Sign(')'),
            '′' | '’' | '\'' => Token::Sign('\''),
            'º' => Token::Sign('°'),
            '∣' => Token::Sign('|'),
            '→' | '⟹' => Token::Sign('⇒'),
            'ℝ' | 'ℤ' | 'ℕ' | 'ℚ' | 'ℂ' => {
                let letter = match c {
                    'ℝ' => 'R',
                    'ℤ' => 'Z',
                    'ℕ' => 'N',
                    'ℚ' => 'Q',
                    _ => 'C',
                };
                self.numbers(letter);
                return Ok(());
            }
            'π' => Token::Symbol("pi".into()),
            '√' => Token::Command("sqrt"),
            '+' | '-' | '*' | '/' | '^' | '_' | '!' | ',' | ';' | ':' | '(' | ')' | '[' | ']' | '{' | '}'
            | '|' | '<' | '>' | '&' | '%' | '°' | '±' | '∓' | '∪' | '∩' | '∖' | '∈' | '∉' | '≤' | '≥'
            | '≠' | '≈' | '≡' | '⇒' | '∧' | '∨' | '∞' | '∅' | '⌊' | '⌋' | '⌈' | '⌉' | '⟨' | '⟩' | '€'
            | '£' | '¥' | '₹' | '…' | '∠' => Token::Sign(c),
            c => {
                if let Some((base, digit)) = numeral::raised(c) {
                    return self.raised(base, digit);
                }
                if let Some(value) = numeral::vulgar_fraction(c) {
                    Token::Number(Number { value, decimals: None })
                } else if let Some(name) = commands::greek_letter(c) {
                    Token::Symbol(name.to_owned())
                } else if c.is_alphabetic() {
                    let mut word = c.to_string();
                    word.push_str(self.take_while(|c| c.is_alphabetic() && !c.is_ascii()));
                    match word.as_str() {
                        "且" | "和" | "与" | "и" => Token::Sign('∧'),
                        "或" | "或者" | "или" => Token::Sign('∨'),
                        _ => Token::Text(word),
                    }
                } else {
                    return Err(format!("it holds `{}`, which is not read", c.escape_default()));
                }
            }
        };
        self.push(token);
        Ok(())
    }

    fn numbers(&mut self, letter: char) {
        self.push(Token::Command("numbers"));
        self.push(Token::Symbol(letter.to_string()));
    }

    /// `²` after a base, `₁` after a name: `mark` and the digits that follow it.
    fn raised(&mut self, mark: char, digit: char) -> Result<(), String> {
        let mut digits = digit.to_string();
        while let Some(c) = self.rest.chars().next()
            && let Some((_, digit)) = numeral::raised(c).filter(|(next, _)| *next == mark)
        {
            digits.push(digit);
            self.rest = &self.rest[c.len_utf8()..];
        }
        let inner = tokens(&digits)?;
        self.push(Token::Sign(mark));
        self.push(Token::Sign('{'));
        for lexeme in inner {
            self.push(lexeme.token);
        }
        self.push(Token::Sign('}'));
        Ok(())
    }

    fn letters(&mut self, run: &str) {
        let token = match run {
            "and" | "And" | "AND" => Token::Sign('∧'),
            "or" | "Or" | "OR" => Token::Sign('∨'),
            "infinity" | "infty" | "Infinity" | "inf" | "oo" => Token::Sign('∞'),
            "percent" | "pct" => Token::Sign('%'),
            "sqrt" => Token::Command("sqrt"),
            "exp" => Token::Command("exp"),
            "mod" => Token::Command("mod"),
            "frac" => Token::Command("frac"),
            "union" | "cup" => Token::Sign('∪'),
            "cdot" | "times" => Token::Sign('*'),
            "emptyset" => Token::Sign('∅'),
            _ if run.len() == 1 => Token::Symbol(run.to_owned()),
            _ => {
                if let Some(function) = Function::named(run) {
                    Token::Function(function)
                } else if let Some(name) = commands::greek_name(run) {
                    Token::Symbol(name.to_owned())
                } else {
                    Token::Word(run.to_owned())
                }
            }
        };
        self.push(token);
    }

    /// What begins with a backslash.
    fn command(&mut self) -> Result<(), String> {
        let after = &self.rest[1..];
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        if end == 0 {
            self.escape(after);
            return Ok(());
        }
        let name = &after[..end];
        if let Some(known) = commands::lookup(name) {
            self.rest = after[end..].strip_prefix('*').unwrap_or(&after[end..]);
            return self.known(known);
        }
        // `\quadx`, `\pir`: a known name with a letter run into it. `\n` is a line end that lost its meaning.
        let prefix = (2..end).rev().find_map(|n| commands::lookup(&name[..n]).map(|known| (n, known)));
        match prefix {
            Some((n, known)) => {
                self.rest = &after[n..];
                self.known(known)
            }
            None if matches!(name, "n" | "t") => {
                self.rest = &after[1..];
                self.spaced = true;
                Ok(())
            }
            None => Err(format!("the command `\\{name}` is not known")),
        }
    }

    /// A backslash before something that is not a letter.
    fn escape(&mut self, after: &'a str) {
        let Some(c) = after.chars().next() else {
            self.rest = after;
            return;
        };
        self.rest = &after[c.len_utf8()..];
        match c {
            '\\' if let Some(rest) = without_row_gap(self.rest) => {
                self.rest = rest;
                self.push(Token::Sign('⏎'));
            }
            '\\' => {
                // `\\le` is `\le` whose backslash was escaped twice; in a matrix `\\` ends a row.
                let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
                if end > 1 && commands::lookup(&self.rest[..end]).is_some() {
                    self.rest = &after[0..];
                } else if let Some(c) = self.rest.chars().next().filter(|c| "()[]".contains(*c)) {
                    self.rest = &self.rest[c.len_utf8()..];
                } else {
                    self.push(Token::Sign('⏎'));
                }
            }
            '{' => self.push(Token::Sign('⦃')),
            '}' => self.push(Token::Sign('⦄')),
            '|' => self.push(Token::Sign('‖')),
            '%' => self.push(Token::Sign('%')),
            '$' => self.push(Token::Sign('$')),
            '&' => self.push(Token::Sign(',')),
            '_' | '#' => {}
            // `\(`, `\)`, `\[`, `\]`, `\,`, `\;`, `\!`, `\ `: delimiters and spaces.
            _ => self.spaced = true,
        }
    }

    fn known(&mut self, known: commands::Known) -> Result<(), String> {
        use commands::Known;
        match known {
            Known::Space => self.spaced = true,
            Known::Drop => {}
            Known::DropWithArgument => {
                self.argument();
                self.spaced = true;
            }
            Known::Sign(sign) => self.push(Token::Sign(sign)),
            Known::Symbol(name) => self.push(Token::Symbol(name.to_owned())),
            Known::Function(function) => self.push(Token::Function(function)),
            Known::Command(name) => {
                self.push(Token::Command(name));
                if name == "frac" || name == "binom" {
                    self.single_digits();
                }
            }
            Known::Text => {
                let content = self.argument();
                self.text(content)?;
            }
            Known::Begin => {
                let name = self.argument().trim_end_matches('*').to_owned();
                if name == "array" {
                    self.argument();
                }
                self.push(Token::Begin(name));
            }
            Known::End => {
                self.argument();
                self.push(Token::End);
            }
            Known::Not => {
                self.rest = self.rest.trim_start();
                if let Some(rest) = self.rest.strip_prefix('=') {
                    self.rest = rest;
                    self.push(Token::Sign('≠'));
                } else if let Some(rest) = self.rest.strip_prefix("\\in") {
                    self.rest = rest;
                    self.push(Token::Sign('∉'));
                } else {
                    return Err("it negates a relation that is not known".into());
                }
            }
        }
        Ok(())
    }

    /// `\frac12`: single digits are arguments without braces.
    fn single_digits(&mut self) {
        for _ in 0..2 {
            let rest = self.rest.trim_start();
            if !starts_with_digit(rest) {
                return;
            }
            let (number, _) = numeral::read(&rest[..1], false);
            self.rest = &rest[1..];
            self.push(Token::Number(number));
        }
    }

    /// The content of the braces that follow, which are passed; empty where there are none.
    fn argument(&mut self) -> &'a str {
        let rest = self.rest.trim_start();
        let Some(content) = rest.strip_prefix('{') else { return "" };
        let mut depth = 0_usize;
        for (at, byte) in content.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 0 => {
                    self.rest = &content[at + 1..];
                    return &content[..at];
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
        self.rest = "";
        content
    }

    /// `\text{content}`: words as they are; a number or formula as if it stood outside.
    fn text(&mut self, content: &'a str) -> Result<(), String> {
        let trimmed = content.trim_matches(|c: char| c.is_whitespace() || c == '~');
        let lower = trimmed.to_lowercase();
        if trimmed.is_empty() {
            self.spaced = true;
            return Ok(());
        }
        let joiner = match lower.trim_matches([',', ';', '.', ' ']) {
            "and" | "und" | "et" | "且" | "和" | "与" | "и" => Some('∧'),
            "or" | "oder" | "ou" | "或" | "或者" | "или" => Some('∨'),
            "" => Some(','),
            _ => None,
        };
        if let Some(joiner) = joiner {
            self.push(Token::Sign(joiner));
            return Ok(());
        }
        if matches!(lower.as_str(), "infinity" | "positive infinity" | "infinite infinity" | "∞") {
            self.push(Token::Sign('∞'));
            return Ok(());
        }
        if lower == "negative infinity" {
            self.push(Token::Sign('-'));
            self.push(Token::Sign('∞'));
            return Ok(());
        }
        if matches!(lower.as_str(), "percent" | "%" | "\\%" | "pct") {
            self.push(Token::Sign('%'));
            return Ok(());
        }
        let is_words = trimmed.split(|c: char| !c.is_alphabetic()).any(|run| run.chars().count() > 1);
        let known = |text: &str| Function::named(text).is_some() || commands::greek_name(text).is_some();
        let inline = !is_words && !super::units::Unit::is_unit(trimmed)
            || starts_with_digit(trimmed)
            || trimmed.contains(['$', '\\'])
            || known(trimmed);
        if !inline || self.text_depth >= MAX_TEXT_DEPTH {
            self.push(Token::Text(trimmed.to_owned()));
            return Ok(());
        }
        let after = std::mem::replace(&mut self.rest, content);
        self.text_depth += 1;
        let result = self.run();
        self.text_depth -= 1;
        self.rest = after;
        result
    }
}

/// What follows the height of a gap behind the end of a row: `[4pt]`.
fn without_row_gap(rest: &str) -> Option<&str> {
    let (gap, behind) =
        rest.strip_prefix('*').unwrap_or(rest).trim_start().strip_prefix('[')?.split_once(']')?;
    let unit = gap.trim().trim_start_matches(|c: char| c.is_ascii_digit() || "+-. ".contains(c));
    let is_length = gap.len() > unit.len() || unit.starts_with('\\');
    let known = matches!(unit, "pt" | "em" | "ex" | "mm" | "cm" | "in" | "mu" | "bp" | "pc" | "sp")
        || matches!(unit, "\\baselineskip" | "\\jot" | "\\medskipamount" | "\\smallskipamount");
    (is_length && known).then_some(behind)
}

/// Removes each `&` at a sign of relation: it lines up equations and separates nothing.
fn remove_alignment(lexemes: &mut Vec<Lexeme>) {
    let is_relation = |lexeme: Option<&Lexeme>| {
        matches!(
            lexeme.map(|lexeme| &lexeme.token),
            Some(Token::Sign('=' | '≠' | '<' | '≤' | '>' | '≥' | '≈'))
        )
    };
    let aligns: Vec<bool> = (0..lexemes.len())
        .map(|at| {
            lexemes[at].token == Token::Sign('&')
                && (is_relation(lexemes.get(at + 1)) || at > 0 && is_relation(lexemes.get(at - 1)))
        })
        .collect();
    let mut aligns = aligns.into_iter();
    lexemes.retain(|_| !aligns.next().unwrap_or(false));
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}
