//! Models that judge, in this process: the engine behind rewards of the kinds `model` and `judge`.

use koan_backend::Backend;
use koan_data::Message;
use koan_generate::{Drafts, Generator, Limits, MemoryPlan, Request, Sampling, Stream};
use koan_model::{HeadKind, Model, Residency, checkpoint::CheckpointError};
use koan_reward::models::{Models, ModelsError, Needed, Question, Reply, Role, Speech};
use serde_json::Map;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::{Codec, InferError, PromptStyle, Scorer, plan, scorer::in_words};

/// Models that judge, on a device. What they work in is held only while they do.
pub struct JudgeModels<'b, B: Backend> {
    b: &'b B,
    scorers: BTreeMap<PathBuf, Scorer<'b, B>>,
    speakers: BTreeMap<PathBuf, Speaker<B>>,
}

/// A language model that judges.
struct Speaker<B: Backend> {
    codec: Codec,
    model: Model<B>,
    limits: Limits,
}

/// Bytes that models which judge take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JudgePlan {
    /// Their weights, held from first to last.
    pub weights: usize,
    /// What the largest of them works in while it judges: they take turns.
    pub working: usize,
}

impl<'b, B: Backend> JudgeModels<'b, B> {
    /// What the models that rewards need take. Their weights are not read.
    ///
    /// # Errors
    /// A directory without such a model.
    pub fn plan(b: &B, needs: &[Needed]) -> Result<JudgePlan, InferError> {
        let mut sum = JudgePlan::default();
        for need in merged(needs) {
            let (codec, working) = match need.role {
                Role::Scores => {
                    let codec = Scorer::<B>::open(&need.model).map_err(|e| e.of_reward(&need.reward))?;
                    let max_tokens = need.max_tokens.min(codec.config().longest_sequence());
                    let working = Scorer::pass_bytes(b, codec.config(), max_tokens);
                    (codec, working)
                }
                Role::Speaks { .. } => {
                    let (codec, limits) = speaker(&need).map_err(|e| e.of_reward(&need.reward))?;
                    let working = limits.bytes(b, codec.config());
                    (codec, working)
                }
            };
            sum.weights = sum.weights.saturating_add(codec.config().model_bytes(b, Residency::Inference));
            sum.working = sum.working.max(working);
        }
        Ok(sum)
    }

    /// Loads the models that rewards need, each once.
    ///
    /// # Errors
    /// A directory without such a model, weights that are refused, or a lack of memory.
    pub fn load(b: &'b B, needs: &[Needed]) -> Result<Self, InferError> {
        let (mut scorers, mut speakers) = (BTreeMap::new(), BTreeMap::new());
        for need in merged(needs) {
            let dir = need.model.clone();
            let of_reward = |error: InferError| error.of_reward(&need.reward);
            match need.role {
                Role::Scores => {
                    let scorer = Scorer::load(b, &dir, need.max_tokens).map_err(of_reward)?;
                    scorers.insert(dir, scorer);
                }
                Role::Speaks { .. } => {
                    let (codec, limits) = speaker(&need).map_err(of_reward)?;
                    let working = limits.bytes(b, codec.config());
                    let what = format!("{} answers of the judge at once", limits.sequences);
                    plan::check(b, codec.config(), working, &what).map_err(|e| of_reward(e.into()))?;
                    let positions = limits.prompt_tokens + limits.new_tokens;
                    let model = codec.load(b, Some(positions)).map_err(|e| of_reward(e.into()))?;
                    speakers.insert(dir, Speaker { codec, model, limits });
                }
            }
        }
        Ok(Self { b, scorers, speakers })
    }

    fn speak_on(
        &self,
        speaker: &Speaker<B>,
        questions: &[Question],
        speech: Speech,
    ) -> Result<Vec<Result<String, String>>, InferError> {
        let Speaker { codec, model, limits } = speaker;
        let max = limits.prompt_tokens;
        let encode = |question: &Question| match codec.encode(&question.messages, &Map::new()) {
            Ok(ids) if ids.len() > max => {
                Err(format!("the question has {} tokens for the judge, which reads {max}", ids.len()))
            }
            Ok(ids) if ids.is_empty() => Err("the question has no tokens for the judge".to_owned()),
            Ok(ids) => Ok(ids),
            Err(error) => Err(format!("the judge can't read the question: {}", in_words(&error))),
        };
        let sampling = Sampling {
            temperature: speech.temperature,
            max_new_tokens: speech.max_new_tokens.min(limits.new_tokens),
            stop_ids: codec.stop_ids(),
            seed: speech.seed,
            stream: Stream::Judge,
            ..Sampling::default()
        };
        let limits = Limits { sequences: limits.sequences.min(questions.len()).max(1), ..*limits };
        let mut generator = Generator::planned(self.b, codec.config(), MemoryPlan::whole(self.b, limits))?;
        let mut said: Vec<Result<String, String>> = Vec::with_capacity(questions.len());
        let mut places = HashMap::new();
        for (i, question) in questions.iter().enumerate() {
            let encoded = encode(question);
            if let Ok(ids) = encoded {
                let request = Request {
                    prompt: ids.into(),
                    sampling: sampling.clone(),
                    problem: question.key,
                    sample: 0,
                    shows_logits: false,
                };
                places.insert(generator.submit(request)?, i);
                said.push(Err("the judge was not heard to the end".to_owned()));
            } else {
                said.push(encoded.map(|_| String::new()));
            }
        }
        while generator.is_busy() {
            for finished in generator.step(self.b, model)?.finished {
                if let Some(&place) = places.get(&finished.id) {
                    said[place] =
                        codec.decode(&finished.completion.token_ids).map_err(|error| error.to_string());
                }
            }
        }
        Ok(said)
    }
}

impl<B: Backend> Models for JudgeModels<'_, B> {
    fn score(&self, model: &Path, replies: &[Reply]) -> Result<Vec<Result<f64, String>>, ModelsError> {
        let Some(scorer) = self.scorers.get(model) else {
            return Err(ModelsError(format!("`{}` is not loaded", model.display()).into()));
        };
        let encode = |reply: &Reply| scorer.encode(&reply.prompt, &Message::assistant(&*reply.text));
        let texts: Vec<_> = replies.iter().map(encode).collect();
        let scores = scorer.scores(texts.iter().flatten()).map_err(|error| ModelsError(Box::new(error)))?;
        let mut scores = scores.into_iter();
        let score =
            |text: Result<_, String>| text.and_then(|_| scores.next().ok_or_else(|| "not scored".to_owned()));
        Ok(texts.into_iter().map(score).collect())
    }

    fn speak(
        &self,
        model: &Path,
        questions: &[Question],
        speech: Speech,
    ) -> Result<Vec<Result<String, String>>, ModelsError> {
        let Some(speaker) = self.speakers.get(model) else {
            return Err(ModelsError(format!("`{}` is not loaded", model.display()).into()));
        };
        self.speak_on(speaker, questions, speech).map_err(|error| ModelsError(Box::new(error)))
    }
}

/// One need for each model and kind of work, with the most that any reward asks of it.
fn merged(needs: &[Needed]) -> Vec<Needed> {
    let mut merged: Vec<Needed> = Vec::new();
    for need in needs {
        let same = |other: &&mut Needed| {
            other.model == need.model
                && matches!(other.role, Role::Scores) == matches!(need.role, Role::Scores)
        };
        let Some(known) = merged.iter_mut().find(same) else {
            merged.push(need.clone());
            continue;
        };
        known.max_tokens = known.max_tokens.max(need.max_tokens);
        if let (
            Role::Speaks { max_new_tokens, sequences },
            Role::Speaks { max_new_tokens: new, sequences: more },
        ) = (&mut known.role, need.role)
        {
            (*max_new_tokens, *sequences) = ((*max_new_tokens).max(new), (*sequences).max(more));
        }
    }
    merged
}

/// How the judge of `need` reads and writes, and what its generator is for.
fn speaker(need: &Needed) -> Result<(Codec, Limits), InferError> {
    let Role::Speaks { max_new_tokens, sequences } = need.role else {
        unreachable!("a judge that speaks");
    };
    let codec = Codec::open(&need.model, PromptStyle::default())?;
    if codec.config().head != HeadKind::Language {
        return Err(CheckpointError::RewardModel { path: need.model.clone() }.into());
    }
    codec.tokenizer()?;
    let reach = codec.config().longest_sequence();
    let new_tokens = max_new_tokens.min(reach.saturating_sub(1)).max(1);
    let prompt_tokens = need.max_tokens.min(reach - new_tokens);
    Ok((codec, Limits { sequences, prompt_tokens, new_tokens, drafts: Drafts::Off }))
}
