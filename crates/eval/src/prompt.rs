//! How a problem becomes the tokens that a model is asked with.

use koan_text::{Message, TextError, Tokenizer};

/// How prompts are put to the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptStyle {
    /// As they stand, without the chat template.
    pub raw: bool,
    /// A system message before the problem, unless it has one.
    pub system: Option<String>,
}

impl PromptStyle {
    /// The tokens of a conversation: through the model's chat template up to where its answer begins, or, if the model has no
    /// template or `raw` is set, its text as it stands.
    ///
    /// # Errors
    /// If the template or the tokenizer refuses.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[koan_data::Message],
    ) -> Result<Vec<u32>, TextError> {
        match tokenizer.chat_template() {
            Some(template) if !self.raw => {
                let has_system = messages.iter().any(|m| m.role == "system");
                let system = self.system.iter().filter(|_| !has_system).map(|s| Message::new("system", s));
                let turns = messages.iter().map(|m| Message::new(&*m.role, &*m.content));
                let messages: Vec<Message> = system.chain(turns).collect();
                tokenizer.encode(&template.render(&messages, true)?, false)
            }
            _ => {
                let turns: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
                tokenizer.encode(&turns.join("\n"), true)
            }
        }
    }
}
