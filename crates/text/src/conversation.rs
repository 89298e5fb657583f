//! A conversation as a model reads it: the prompt up to where a reply begins, and what the model would then have to generate.
//!
//! A reply is learned as it would be generated: its tokens follow those of the prompt that `add_generation_prompt` gives, and
//! end with the token that ends a turn. What a template writes of a finished reply is that, where it begins with this prompt
//! and says all that the message says. Where it does not (many templates open `<think>` in the prompt, and leave the thinking
//! out of history), the reply is put together from the message: its thinking, and then what the template writes of the rest.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{ChatTemplate, TemplateValue, TextError, Tokenizer};

/// What thinking stands between, in the families that have it.
const THINKING_TAGS: [(&str, &str); 5] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<reasoning>", "</reasoning>"),
];
/// The fields in which messages hold thinking apart from `content`.
const THINKING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// A text that no message has: where it is found again tells what a template does with the text it stands for.
const MARK: &str = "koan7f3a9c";

/// A message: `role`, `content`, and what else its template may read.
pub type Turn = Map<String, Value>;

/// A conversation for a model that has a chat template.
#[derive(Clone, Debug)]
pub struct Conversation<'a> {
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    turns: Vec<Turn>,
    variables: BTreeMap<String, TemplateValue>,
}

/// What is learned of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `tokens` are learned, given `context`.
    Learned {
        /// The prompt.
        context: Vec<u32>,
        /// The reply, with the token that ends it.
        tokens: Vec<u32>,
    },
    /// The prompt opens the thinking, and the reply has none: the model would never generate it.
    WithoutThinking,
}

impl<'a> Conversation<'a> {
    /// A conversation of `turns`. The fields `tools`, `documents` and `chat_template_kwargs` of `row` are for the template.
    /// None: the model has no template.
    ///
    /// # Errors
    /// If the model has several templates and none is for this, or a field has the wrong type.
    pub fn new(
        tokenizer: &'a Tokenizer,
        mut turns: Vec<Turn>,
        row: &Map<String, Value>,
    ) -> Result<Option<Self>, TextError> {
        turns.iter_mut().for_each(name_thinking);
        let variables = variables(row)?;
        let Some(template) = tokenizer.chat_template(variables.contains_key("tools"))? else {
            return Self::check_raw(&turns, row).map(|()| None);
        };
        Ok(Some(Self { tokenizer, template, turns, variables }))
    }

    /// Says what of a conversation would be lost if its messages were read as they stand, without a template.
    ///
    /// # Errors
    /// Tools, calls of them, or thinking apart from the content.
    pub fn check_raw(turns: &[Turn], row: &Map<String, Value>) -> Result<(), TextError> {
        let has_thinking = |turn| THINKING_FIELDS.iter().any(|field| text(turn, field).is_some());
        let what = match turns.iter().position(|turn| calls(turn).is_some() || has_thinking(turn)) {
            Some(i) => format!("the `tool_calls` or `reasoning_content` of message {}", i + 1),
            None if variables(row)?.contains_key("tools") => "`tools`".to_owned(),
            None => return Ok(()),
        };
        Err(TextError::NeedsTemplate { what })
    }

    /// The tokens up to where the next reply begins.
    ///
    /// # Errors
    /// If the template refuses the conversation or leaves a part of it out, or the text is too long.
    pub fn prompt(&self) -> Result<Vec<u32>, TextError> {
        self.tokenizer.encode(&self.text()?, false)
    }

    /// The text of [`prompt`](Self::prompt).
    ///
    /// # Errors
    /// If the template refuses the conversation or leaves a part of it out.
    pub fn text(&self) -> Result<String, TextError> {
        self.prompt_text(self.turns.len())
    }

    /// What is learned of the reply that is message `i`, from 0. Of the tokens that end a turn, it ends with the first of
    /// `stops`.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt); and if the template has no place for the reply's thinking or calls.
    pub fn reply(&self, i: usize, stops: &[u32]) -> Result<Reply, TextError> {
        let context = self.prompt_text(i)?;
        let Some(reply) = self.reply_text(i, &context)? else { return Ok(Reply::WithoutThinking) };
        let mut tokens = self.tokenizer.encode(&reply, false)?;
        if let Some(end) = self.end_of_turn(&tokens, stops)? {
            tokens.truncate(end + 1);
        } else {
            // The template writes no token at the end: what ends a text ends the reply.
            let said = text(&self.turns[i], "content").unwrap_or_default();
            if !reply.ends_with(said) {
                tokens = self.tokenizer.encode(reply.trim_end(), false)?;
            }
            tokens.push(self.tokenizer.eos().ok_or_else(|| TextError::NoEndOfTurn)?);
        }
        Ok(Reply::Learned { context: self.tokenizer.encode(&context, false)?, tokens })
    }

    /// The prompt of message `i`, in which nothing before it is left out.
    fn prompt_text(&self, i: usize) -> Result<String, TextError> {
        let turns = &self.turns[..i];
        let prompt = self.render(turns, true)?;
        if self.variables.contains_key("tools") {
            let without = self.variables.iter().filter(|(name, _)| *name != "tools");
            let without = without.map(|(name, value)| (name.clone(), value.clone())).collect();
            if self.template.render_with(turns, true, &without).is_ok_and(|text| text == prompt) {
                return Err(TextError::LeftOut { what: "`tools`".to_owned() });
            }
        }
        let is_plain = |turn: &Turn| matches!(role(turn), "user" | "assistant") && calls(turn).is_none();
        if turns.iter().all(is_plain) {
            return Ok(prompt);
        }
        let mut marked = turns.to_vec();
        let (mut marks, mut n) = (Vec::new(), 0);
        let mut mark = |what: String| {
            n += 1;
            marks.push((format!("{MARK}x{n}x"), what));
            format!("{MARK}x{n}x")
        };
        for (k, turn) in marked.iter_mut().enumerate() {
            let (role, k) = (role(turn).to_owned(), k + 1);
            if !matches!(&*role, "user" | "assistant") && text(turn, "content").is_some() {
                let content = text(turn, "content").unwrap_or_default();
                let content = format!("{content} {}", mark(format!("message {k}, whose role is `{role}`")));
                turn.insert("content".to_owned(), content.into());
            }
            mark_calls(turn, |_| mark(format!("the `tool_calls` of message {k}")));
        }
        // A template that refuses the marks (it reads a result as JSON, say) has seen them.
        if let Ok(text) = self.render(&marked, true)
            && let Some((_, what)) = marks.into_iter().find(|(mark, _)| !text.contains(mark))
        {
            return Err(TextError::LeftOut { what });
        }
        Ok(prompt)
    }

    /// The text that the model would have to generate after `context` to have said message `i`, with whatever the template
    /// writes after it. None: it has no thinking, and `context` opened it.
    fn reply_text(&self, i: usize, context: &str) -> Result<Option<String>, TextError> {
        let turn = &self.turns[i];
        let whole = self.render(&self.turns[..=i], false)?;
        let message = Message::of(turn);
        // The template's own text of the reply, and of the same reply with its parts marked.
        let marked = self.render_marked(i, &message)?;
        let holds = |text: &str| {
            (
                message.thinking.is_none() || text.contains(THOUGHT_MARK),
                text.contains(ANSWER_MARK) || message.answer.trim().is_empty(),
            )
        };
        if message.calls > 0 && marked.matches(CALL_MARK).count() < message.calls {
            return Err(TextError::LeftOut { what: calls_of(i) });
        }
        let plain = self.render_plain(i)?;
        let both = |base| after(&whole, base, &plain).zip(after(&marked, base, &plain));
        if let Some((reply, _)) = both(context).filter(|(_, marked)| holds(marked) == (true, true)) {
            return Ok(Some(reply.to_owned()));
        }
        let tags = THINKING_TAGS.into_iter().find(|(open, close)| {
            context.trim_end().ends_with(open)
                || self.template.source().contains(close)
                || message.tags == Some((*open, *close))
        });
        let before_thinking = tags.and_then(|(open, _)| context.trim_end().strip_suffix(open));
        let closes_thinking = tags.is_some_and(|(_, close)| context.trim_end().ends_with(close));
        let base = before_thinking.unwrap_or(context);
        let rest = both(base);
        let Some(thinking) = &message.thinking else {
            return match before_thinking {
                Some(_) => Ok(None),
                None if message.calls > 0 => Err(TextError::LeftOut { what: calls_of(i) }),
                None => Ok(Some(format!("{}{}", message.content, ending(&plain, i)?))),
            };
        };
        let Some((open, close)) = tags.filter(|_| !closes_thinking) else {
            return Err(TextError::NoThinking { number: i + 1 });
        };
        let after_open = |text: &str| {
            text.trim_start().strip_prefix(open).map(|text| text.trim_start_matches('\n').to_owned())
        };
        let rest = match rest {
            // The template writes the thinking, but opens it otherwise than the prompt does.
            Some((reply, marked)) if holds(marked) == (true, true) => {
                if let (Some(_), Some(reply)) = (before_thinking, after_open(reply)) {
                    return Ok(Some(reply));
                }
                format!("{}{}", message.answer, ending(&plain, i)?)
            }
            // It writes the rest, perhaps after a block of no thinking.
            Some((reply, marked)) if holds(marked).1 => {
                let empty = after_open(reply)
                    .and_then(|text| text.trim_start().strip_prefix(close).map(str::to_owned));
                empty.unwrap_or_else(|| reply.to_owned()).trim_start_matches('\n').to_owned()
            }
            _ if message.calls > 0 => return Err(TextError::NoThinking { number: i + 1 }),
            _ => format!("{}{}", message.answer, ending(&plain, i)?),
        };
        let opening = if before_thinking.is_some() { String::new() } else { format!("{open}\n") };
        let between = message.between.as_deref().unwrap_or("\n\n");
        let newline = if message.between.is_some() { "" } else { "\n" };
        Ok(Some(format!("{opening}{thinking}{newline}{close}{between}{rest}")))
    }

    /// The conversation up to message `i`, with marks for its thinking, its answer and the names of its calls.
    fn render_marked(&self, i: usize, message: &Message) -> Result<String, TextError> {
        let mut turns = self.turns[..=i].to_vec();
        let turn = &mut turns[i];
        let answer = if message.answer.trim().is_empty() { "" } else { ANSWER_MARK };
        let content = match message.tags {
            Some((open, close)) => format!("{open}\n{THOUGHT_MARK}\n{close}\n\n{answer}"),
            None => answer.to_owned(),
        };
        if text(turn, "content").is_some() {
            turn.insert("content".to_owned(), content.into());
        }
        for field in THINKING_FIELDS {
            if turn.contains_key(field) && message.is_apart {
                turn.insert(field.to_owned(), THOUGHT_MARK.into());
            }
        }
        mark_calls(turn, |_| CALL_MARK.to_owned());
        self.render(&turns, false)
    }

    /// The conversation up to message `i`, with a mark as its whole text.
    fn render_plain(&self, i: usize) -> Result<String, TextError> {
        let mut turns = self.turns[..i].to_vec();
        turns.push(Turn::from_iter([
            ("role".to_owned(), role(&self.turns[i]).into()),
            ("content".to_owned(), ANSWER_MARK.into()),
        ]));
        self.render(&turns, false)
    }

    /// The place of the token that ends the turn: of the special tokens at the end, between which is white space alone, the
    /// first of `stops`, or else the last.
    fn end_of_turn(&self, tokens: &[u32], stops: &[u32]) -> Result<Option<usize>, TextError> {
        let mut end = None;
        let mut rest = tokens.len();
        while let Some(at) = tokens[..rest].iter().rposition(|&id| self.ends(id, stops)) {
            if !self.tokenizer.decode(&tokens[at + 1..rest], false)?.trim().is_empty() {
                break;
            }
            if end.is_none() || stops.contains(&tokens[at]) {
                end = Some(at);
            }
            rest = at;
        }
        Ok(end)
    }

    fn ends(&self, id: u32, stops: &[u32]) -> bool {
        stops.contains(&id) || self.tokenizer.is_special(id)
    }

    fn render(&self, turns: &[Turn], add_generation_prompt: bool) -> Result<String, TextError> {
        self.template.render_with(turns, add_generation_prompt, &self.variables)
    }
}

/// Marks of a reply's parts.
const THOUGHT_MARK: &str = "koan7f3a9cthought";
const ANSWER_MARK: &str = "koan7f3a9canswer";
const CALL_MARK: &str = "koan7f3a9ccall";

/// The token that ends the assistant's turns by the model's chat template, if it writes one.
pub(crate) fn end_of_turn(tokenizer: &Tokenizer, stops: &[u32]) -> Option<u32> {
    let turn = |role: &str, content: &str| {
        Turn::from_iter([("role".to_owned(), role.into()), ("content".to_owned(), content.into())])
    };
    let turns = vec![turn("user", "Hello"), turn("assistant", ANSWER_MARK)];
    let conversation = Conversation::new(tokenizer, turns, &Map::new()).ok()??;
    let plain = conversation.render_plain(1).ok()?;
    let tokens = tokenizer.encode(ending(&plain, 1).ok()?, false).ok()?;
    conversation.end_of_turn(&tokens, stops).ok()?.map(|at| tokens[at])
}

/// What a template writes after the marked reply `i` of `plain`.
fn ending(plain: &str, i: usize) -> Result<&str, TextError> {
    let ending = plain.rsplit_once(ANSWER_MARK).map(|(_, ending)| ending);
    ending.ok_or_else(|| TextError::LeftOut { what: format!("the content of message {}", i + 1) })
}

fn calls_of(i: usize) -> String {
    format!("the `tool_calls` of message {}", i + 1)
}

/// What follows the prompt `base` in `text`. Where a template writes earlier messages otherwise once there is a reply, it is
/// what follows the prompt's end, which lies just before `text` departs from `plain`, the same with another reply.
fn after<'t>(text: &'t str, base: &str, plain: &str) -> Option<&'t str> {
    /// Characters of a prompt's end by which it is found: as many of these as there are, and not fewer.
    const TAIL: std::ops::RangeInclusive<usize> = 4..=24;
    text.strip_prefix(base).or_else(|| {
        let mut pairs = text.char_indices().zip(plain.chars());
        let same = pairs.find(|((_, a), b)| a != b).map_or(text.len(), |((at, _), _)| at);
        TAIL.rev().find_map(|n| {
            let (at, _) = base.char_indices().rev().nth(n - 1)?;
            let end = text[..same].rfind(&base[at..])? + base.len() - at;
            text[end..same].trim().is_empty().then(|| &text[end..])
        })
    })
}

/// The parts of a reply.
struct Message<'a> {
    content: &'a str,
    /// Apart, or within `content`.
    thinking: Option<String>,
    /// What is said after it.
    answer: &'a str,
    /// Whether the thinking is in a field of its own.
    is_apart: bool,
    /// What it stands between in `content`.
    tags: Option<(&'static str, &'static str)>,
    /// The white space in `content` between thinking and answer.
    between: Option<String>,
    calls: usize,
}

impl<'a> Message<'a> {
    fn of(turn: &'a Turn) -> Self {
        let content = text(turn, "content").unwrap_or_default();
        let plain = Self {
            content,
            thinking: None,
            answer: content,
            is_apart: false,
            tags: None,
            between: None,
            calls: calls(turn).map_or(0, Vec::len),
        };
        let apart = text(turn, THINKING_FIELDS[0]).filter(|thinking| !thinking.trim().is_empty());
        if let Some(thinking) = apart {
            return Self { thinking: Some(thinking.trim_matches('\n').to_owned()), is_apart: true, ..plain };
        }
        for (open, close) in THINKING_TAGS {
            let Some((before, answer)) = content.split_once(close) else { continue };
            let before = before.trim_start();
            let thinking = before.strip_prefix(open).unwrap_or(before);
            if thinking.contains(open) || thinking.trim().is_empty() {
                continue; // it is quoted further on, or there is none
            }
            let said = answer.trim_start();
            return Self {
                thinking: Some(thinking.trim_start_matches('\n').to_owned()),
                answer: said,
                tags: Some((open, close)),
                between: Some(answer[..answer.len() - said.len()].to_owned()),
                ..plain
            };
        }
        plain
    }
}

/// Gives a message's thinking the names that templates read, whichever it has, as transformers does.
pub fn name_thinking(turn: &mut Turn) {
    let thinking = THINKING_FIELDS.iter().find_map(|field| turn.get(*field).filter(|value| !value.is_null()));
    if let Some(thinking) = thinking.cloned() {
        turn.insert(THINKING_FIELDS[0].to_owned(), thinking.clone());
        turn.entry(THINKING_FIELDS[1]).or_insert(thinking);
    }
}

/// What `row` has for the template.
fn variables(row: &Map<String, Value>) -> Result<BTreeMap<String, TemplateValue>, TextError> {
    let mut variables = BTreeMap::new();
    match row.get("chat_template_kwargs") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => {
            let value = |value: &Value| TemplateValue::from(minijinja::value::Serde(value));
            variables.extend(given.iter().map(|(name, given)| (name.clone(), value(given))));
        }
        Some(_) => return Err(TextError::Field { field: "chat_template_kwargs", expected: "an object" }),
    }
    for field in ["tools", "documents"] {
        match row.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(list @ Value::Array(_)) => {
                variables.insert(field.to_owned(), TemplateValue::from(minijinja::value::Serde(list)));
            }
            // Data sets keep lists of schemas as JSON in a text.
            Some(Value::String(json)) if field == "tools" => match serde_json::from_str(json) {
                Ok(Value::Array(items)) if items.is_empty() => {}
                Ok(list @ Value::Array(_)) => {
                    variables.insert(field.to_owned(), TemplateValue::from(minijinja::value::Serde(list)));
                }
                _ => return Err(TextError::Field { field: "tools", expected: "a list of tools" }),
            },
            Some(_) if field == "tools" => {
                return Err(TextError::Field { field: "tools", expected: "a list of tools" });
            }
            Some(_) => {} // another meaning of the name
        }
    }
    Ok(variables)
}

fn role(turn: &Turn) -> &str {
    text(turn, "role").unwrap_or_default()
}

fn text<'t>(turn: &'t Turn, field: &str) -> Option<&'t str> {
    turn.get(field).and_then(Value::as_str)
}

/// The calls of a message that has some.
fn calls(turn: &Turn) -> Option<&Vec<Value>> {
    turn.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty())
}

/// Replaces the names of the functions that are called.
fn mark_calls(turn: &mut Turn, mut mark: impl FnMut(usize) -> String) {
    let calls = turn.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (i, call) in calls.into_iter().flatten().enumerate() {
        let named = if call.get("function").is_some() { call.get_mut("function") } else { Some(call) };
        if let Some(named) = named.and_then(Value::as_object_mut) {
            named.insert("name".to_owned(), mark(i).into());
        }
    }
}

#[cfg(test)]
mod tests;
