//! Words that people bring from other programs: what they are called here, or that Koan does not have it.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is said of every way to ask for a GPU.
const ON_GPU: &str = "`--device cuda:0` computes on the first NVIDIA GPU; without it, Koan takes a GPU that it can use by itself. \
                      `koan doctor` says what it finds (docs/guide/gpus.md)";

/// What is said of GPUs of other makers.
pub(crate) const NO_SUCH_GPU: &str =
    "Koan computes on CPUs and on NVIDIA GPUs (--device cuda:0), not on others yet";

/// Verbs of other programs, and where what they do is.
const VERBS: &[(&[&str], &str)] = &[
    (
        &["train", "fit", "learn", "trl", "verl"],
        "training is `koan rl` (from verified answers), `koan sft` (from demonstrations) or `koan pretrain` (from text)",
    ),
    (
        &["grpo", "ppo", "rlvr", "rloo", "dapo", "gspo", "cispo", "r1", "dr-grpo", "reinforce", "rlhf"],
        "reinforcement learning is `koan rl FILE.toml`; `preset` in its table [algorithm] chooses among grpo, r1, dapo, \
         dr-grpo, gspo, cispo and rloo. A reward model is a reward of the kind `model`; PPO with a value model is not in Koan",
    ),
    (&["finetune", "fine-tune", "tune", "instruct"], "fine-tuning on demonstrations is `koan sft FILE.toml`"),
    (
        &["lora", "qlora", "peft", "adapter", "merge"],
        "a table [adapter] in the file of `koan sft`, `koan rl` or `koan prefer` trains a LoRA, `--adapter` applies one, `koan model \
         merge` merges it: docs/guide/adapters.md",
    ),
    (
        &[
            "dpo",
            "ipo",
            "kto",
            "orpo",
            "simpo",
            "cpo",
            "preference",
            "preferences",
            "reward",
            "reward-model",
            "rm",
        ],
        "learning from preferences, and training reward models, is `koan prefer FILE.toml`; `loss` in its table [algorithm] \
         chooses among dpo, ipo, hinge, cpo, simpo, orpo, kto, reward-model and others",
    ),
    (
        &["rejection", "rejection-sampling", "best-of-n", "filter"],
        "data of a model's own answers, judged and filtered, are made by `koan reject FILE.toml`",
    ),
    (
        &["distil", "distillation", "gkd", "opd", "minillm", "teacher"],
        "learning from a teacher is `koan distill FILE.toml`; `method` in its table [algorithm] chooses between its texts, its \
         distributions, and what it says of the student's own completions",
    ),
    (
        &["server", "api", "openai", "vllm", "vllm-serve", "deploy", "host", "llama-server"],
        "`koan serve --model DIR` serves a model by OpenAI's API, with a chat page; `koan chat` talks to one in the terminal",
    ),
    (
        &["convert", "quantize", "quantise", "gguf"],
        "models: `koan model import FILE.gguf` and `koan model export DIR --gguf FILE --type q8_0` (or q4_0, bf16, …); data: `koan data`",
    ),
    (&["import"], "`koan model import FILE.gguf --out DIR` imports a model, `koan data import` problems"),
    (&["export", "save", "push", "upload", "publish"], "`koan model export DIR --gguf FILE`, or `--out DIR`"),
    (
        &["download", "pull", "fetch", "get", "clone"],
        "`koan model pull OWNER/NAME` fetches a model from a hub",
    ),
    (
        &["pipeline", "workflow", "flow", "dag", "make"],
        "many steps as one file are `koan recipe run FILE.toml`",
    ),
    (
        &["init", "new", "create"],
        "`koan model init` makes a fresh model; recipes/ has configs of runs that work as they stand",
    ),
    (
        &["info", "inspect", "ls", "list", "show"],
        "`koan model info DIR` says what a model is, `koan view DIR` what a run did",
    ),
    (
        &["run", "infer", "inference", "predict", "complete", "completion", "sample", "ask", "prompt"],
        "`koan generate --model DIR --prompt TEXT` answers once, `koan chat --model DIR` holds a conversation; a run of training is \
         `koan rl FILE.toml`",
    ),
    (
        &["evaluate", "bench-model", "lm-eval", "lm_eval", "measure"],
        "`koan eval --model DIR --data FILE` measures a model",
    ),
    (
        &["test", "check", "replay"],
        "`koan verify --input FILE` tries rewards on completions, `koan eval --model DIR --data FILE` measures a model",
    ),
    (
        &["plot", "tensorboard", "wandb", "curves", "dashboard", "log", "logs", "watch", "report", "status"],
        "`koan view RUN` shows a run's curves and completions in the browser; `tensorboard = true` in its config writes the \
         metrics for TensorBoard too",
    ),
    (&["generate-data", "dataset", "datasets", "stats"], "`koan data` generates, imports and counts"),
    (&["resume", "continue"], "the command that began the run goes on with it: `koan rl FILE.toml --resume`"),
    (
        &["plan", "estimate", "memory", "explain"],
        "`koan rl FILE.toml --plan` says what a run will take, `--explain` what it computes",
    ),
    (&["completion-script", "autocomplete"], "`koan completions SHELL`"),
    (&["tokenize", "tokens"], "`koan data stats FILE --model DIR` counts tokens"),
    (&["gpu", "cuda", "gpus"], ON_GPU),
    (
        &["env", "sysinfo", "nvidia-smi", "system", "diagnose", "collect-env"],
        "`koan doctor` says what it finds on this machine",
    ),
];

/// The same below `koan model`.
const MODEL_VERBS: &[(&[&str], &str)] = &[
    (&["download", "fetch", "get", "clone"], "`koan model pull OWNER/NAME`"),
    (
        &["convert", "quantize", "quantise", "gguf"],
        "`koan model import FILE.gguf`, or `koan model export DIR --gguf FILE --type q8_0`",
    ),
    (
        &["push", "upload", "publish"],
        "Koan does not upload yet: a model directory is one of Hugging Face as it stands, for `hf upload`",
    ),
    (&["new", "create"], "`koan model init`"),
    (&["show", "inspect", "ls", "list"], "`koan model info DIR`"),
    (
        &["card"],
        "Koan does not write model cards yet; lineage.json in a run's directory says what its model was made from",
    ),
];

/// Options of other programs.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &[
            "gpu",
            "gpus",
            "cuda",
            "device-map",
            "num-gpus",
            "n-gpu-layers",
            "ngl",
            "tensor-parallel-size",
            "use-vllm",
        ],
        ON_GPU,
    ),
    (&["mps", "rocm", "vulkan"], NO_SUCH_GPU),
    (
        &["fp16", "bf16", "dtype", "torch-dtype"],
        "products are bf16 on GPUs and on CPUs with AMX, and f32 elsewhere, without an option",
    ),
    (
        &["max-tokens", "max-completion-length", "max-length", "n-predict"],
        "it is called `--max-new-tokens` here",
    ),
    (
        &["num-generations", "num-return-sequences", "samples"],
        "completions per prompt are `--n`; in a run, `--set rollout.group_size=N`",
    ),
    (
        &["model-name-or-path", "model-path", "pretrained", "hf"],
        "it is called `--model` here, and takes a directory",
    ),
    (
        &["learning-rate", "lr", "steps", "max-steps", "batch-size", "epochs", "output-dir", "beta"],
        "options of a run are keys of its TOML file; `--set KEY=VALUE` changes one, such as `--set optim.lr=1e-6`",
    ),
    (&["config"], "the file of settings is named without an option: `koan rl FILE.toml`"),
    (
        &["lora", "use-peft", "lora-r", "lora-alpha", "lora-target-modules"],
        "a table [adapter] in the run's file trains a LoRA (`--set adapter.rank=16`): docs/guide/adapters.md",
    ),
    (
        &["load-in-4bit", "load-in-8bit"],
        "Koan holds frozen weights in the precision of the products, and no lower one: a table [adapter] in the run's file \
         freezes them",
    ),
    (&["jobs", "num-threads", "workers"], "it is called `--threads` here"),
];

/// The error with a tip, where a word of another program caused it; `words` is the command line.
pub(crate) fn with_tip(mut error: clap::Error, words: &[String]) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).to_ascii_lowercase().replace('_', "-");
            match words.get(1).map(String::as_str) {
                Some("model") => find(MODEL_VERBS, &word),
                Some("data" | "bench") => None,
                _ => find(VERBS, &word),
            }
        }
        ErrorKind::UnknownArgument => {
            let option = text(ContextKind::InvalidArg);
            let name = option.trim_start_matches('-').split('=').next().unwrap_or_default();
            find(OPTIONS, &name.to_ascii_lowercase().replace('_', "-"))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        for guess in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
            error.remove(guess);
        }
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn find(table: &[(&'static [&'static str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| *tip)
}
