//! The words of the counter's world, in English and in Chinese. With the blanks around them they are tokens of the model that reads it.

use std::fmt;

/// A language of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Language {
    /// Both.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// The language of this code.
    pub fn by_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.words().code == code)
    }

    /// Its words.
    pub fn words(self) -> &'static Words {
        match self {
            Self::En => &EN,
            Self::Zh => &ZH,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().code)
    }
}

/// The words of a language.
#[expect(missing_docs, reason = "each is the word of its name")]
#[derive(Debug)]
pub struct Words {
    /// ISO 639-1.
    pub code: &'static str,
    pub from: &'static str,
    pub question_mark: &'static str,
    pub plus: &'static str,
    pub minus: &'static str,
    pub makes: &'static str,
    pub check: &'static str,
    pub so: &'static str,
    pub ok: &'static str,
    pub wait: &'static str,
    pub answer: &'static str,
    pub please: &'static str,
    pub lock: &'static str,
    pub clock: &'static str,
    pub welcome: &'static str,
    pub sorry: &'static str,
    pub thanks: &'static str,
    pub hello: &'static str,
}

static EN: Words = Words {
    code: "en",
    from: " from ",
    question_mark: "?\n",
    plus: " plus ",
    minus: " minus ",
    makes: " makes ",
    check: " check ",
    so: " so ",
    ok: " ok",
    wait: " wait",
    answer: "Answer: ",
    please: "please ",
    lock: "lock ",
    clock: "clock ",
    welcome: "welcome",
    sorry: "sorry",
    thanks: "thanks",
    hello: "hello",
};

static ZH: Words = Words {
    code: "zh",
    from: "从",
    question_mark: "？\n",
    plus: "加",
    minus: "减",
    makes: "得",
    check: "验",
    so: "即",
    ok: "对",
    wait: "错",
    answer: "答案：",
    please: "请",
    lock: "锁",
    clock: "钟",
    welcome: "不客气",
    sorry: "抱歉",
    thanks: "谢谢",
    hello: "你好",
};

/// What encloses reasoning.
pub const THINK: [&str; 2] = ["<think>", "</think>"];
/// Each move of a question has a letter.
pub(super) const LABELS: &str = "abcdefghijkl";

/// The words that are tokens, each once; every other character of the world is a token too, of [`CHARACTERS`].
pub fn vocabulary() -> Vec<&'static str> {
    let of = |w: &'static Words| {
        [
            w.from,
            w.question_mark,
            w.plus,
            w.minus,
            w.makes,
            w.check,
            w.so,
            w.ok,
            w.wait,
            w.answer,
            w.please,
            w.lock,
            w.clock,
            w.welcome,
            w.sorry,
            w.thanks,
            w.hello,
        ]
    };
    THINK.into_iter().chain(of(&EN)).chain(of(&ZH)).collect()
}

/// Characters that are tokens of their own.
pub const CHARACTERS: &str = "0123456789+-=: \nabcdefghijkl";
