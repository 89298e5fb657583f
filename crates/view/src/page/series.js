// The names of the curves of metrics.jsonl, their order, and how to read them.
//
// A chart draws the series whose keys the run has; a nested value is named "outer.inner". Numbers that no chart names are
// drawn after the others, under their own names. The first four of a run are always in sight: what its reader watches.
//   keys     key → name of the series ("" where the chart's title says it)
//   percent  values are shares: 1 is 100 %
//   stack    series lie on top of each other
//   band     series key → [low, high] of its interval
//   unless   not drawn where a run has this key
//   together the keys to draw instead where several runs are shown, whose stacks would hide one another
//   group    under which it is folded, unless it is among the first
const CHARTS = [
  { title: "Reward", group: "Rewards", keys: { reward: "" },
    help: "Mean reward of the completions of a step. Healthy: it rises, fast at first, then flattens. If it falls, the learning rate is too high; if it jumps to the top at once, read the rollouts: the model may exploit the reward." },
  { title: "Accuracy", group: "Rewards", percent: true, keys: { accuracy: "training samples", "eval.accuracy": "held out" },
    band: { "eval.accuracy": ["eval.low", "eval.high"] },
    help: "Share of completions whose answer is right: those the step learned from, and those of held-out problems with their 95 % interval. Healthy: both rise. If only training samples rise, the model memorises the problems." },
  { title: "Rewards of replies", group: "Preferences", keys: { "rewards/chosen": "chosen", "rewards/rejected": "rejected" },
    help: "Mean reward of the replies that were preferred, and of the others: β times how far the policy has moved towards them, or the scores of a reward model. Healthy: they part. In DPO both may sink, the rejected one faster; if the chosen one sinks far, add nll_weight." },
  { title: "Margin", group: "Preferences", keys: { "rewards/margins": "training", "eval_rewards/margins": "held out" },
    help: "How much larger the reward of a preferred reply is than that of the other, on average. Healthy: it rises, held-out pairs with it. If only training grows, the pairs are learned by heart." },
  { title: "Pairs told right", group: "Preferences", percent: true, keys: { "rewards/accuracies": "training", "eval_rewards/accuracies": "held out" },
    help: "Share of pairs whose preferred reply has the larger reward; of single replies, of labels told right. Healthy: it rises above 50 %, and stops below 100 % where people do not agree either. Held-out pairs are what counts." },
  { title: "Completion length", group: "Writing", unit: "tokens", keys: { completion_tokens: "mean", max_new_tokens: "most, by step" },
    help: "Mean tokens per completion. Healthy: for a task that needs reasoning it grows with accuracy; for a simple one it falls to what is needed. If it nears the limit, look at the share that is cut." },
  { title: "Entropy", group: "Update", unit: "nats", keys: { entropy: "" },
    help: "How uncertain the model is of the next token, on average. Healthy: it falls slowly. Near zero, all samples of a problem are alike and nothing more is learned; if it rises sharply, the text becomes random." },
  { title: "Loss", group: "Update", keys: { loss: "training", eval_loss: "held out" },
    help: "What the optimizer minimises. In pretraining and fine-tuning it should fall, and held-out loss with it; held-out loss that rises again means overfitting. In RL it says little: it stays near zero by construction." },
  { title: "Log-probability of replies", group: "Preferences", unit: "nats", keys: { "logps/chosen": "chosen", "logps/rejected": "rejected" },
    help: "Mean sum of the log-probabilities of a reply's tokens. Healthy: the rejected one sinks, the chosen one holds or sinks little. If both fall fast, the model drifts away from all it was shown: lower the learning rate, or raise beta." },
  { title: "Gradient norm", group: "Update", keys: { grad_norm: "" },
    help: "Length of the gradient before clipping. Healthy: steady, with few spikes. Growing spikes announce divergence: lower the learning rate." },
  { title: "Learning rate", group: "Update", keys: { lr: "" },
    help: "The size of an update; it follows warm-up and schedule." },
  { title: "Speed", group: "Time", unit: "tokens/s", keys: { tokens_per_s: "" },
    help: "Tokens per second of a step. Healthy: flat; a sudden fall means that something else uses the machine." },
  { title: "Reflection words", group: "Writing", unit: "per completion", keys: { reflection_words: "" },
    help: "How often a completion has words such as wait, however, check, mistake: a sign that the model reconsiders what it wrote (the list of the DeepSeek-R1 paper). It may rise late, or not at all in short tasks." },
  { title: "KL divergence", group: "Update", unit: "nats", keys: { kl: "" },
    help: "How far the policy has moved from the model it started from: per token in RL (k3 estimate), per reply in KTO (z). Healthy: it grows slowly and smoothly. 0 throughout if the run has no KL term." },
  { title: "Time of a step", group: "Time", unit: "s", stack: true, together: { step_s: "" },
    keys: { generate_s: "sample", reward_s: "judge", train_s: "learn", other_s: "other" },
    help: "Where the seconds of a step go: sampling completions, waiting for verdicts, learning, and the rest. Sampling takes longer as completions get longer; waiting for verdicts should stay short." },
  { title: "Cut completions", group: "Writing", percent: true, keys: { truncated: "" },
    help: "Share of completions that reached the token limit before they ended. Healthy: low. If it is high, answers are lost: raise rollout.max_new_tokens." },
  { title: "Format", group: "Writing", percent: true, keys: { format: "" },
    help: "Share of completions in the format that is rewarded. Healthy: near 100 % after a few steps." },
  { title: "Spread of rewards", group: "Rewards", keys: { reward_std: "" },
    help: "Mean over problems of the standard deviation of their rewards. It is what a step learns from: at zero, all completions of a problem earn the same and there is nothing to compare." },
  { title: "Groups without spread", group: "Rewards", unit: "problems", keys: { zero_spread_groups: "without spread", drawn_groups: "sampled" },
    help: "Problems whose completions all earned the same, right or wrong: they teach nothing in this step. If these are nearly all that were sampled, the problems are too easy or too hard." },
  { title: "Rounds of sampling", group: "Rewards", keys: { rounds: "" },
    help: "How many rounds a step sampled to find problems whose completions earn different rewards (dynamic sampling); 1 without it. It grows as the problems become easy." },
  { title: "Clipped tokens", group: "Update", percent: true, keys: { clip_fraction: "" },
    help: "Share of tokens whose gradient the clip stopped. Healthy: a few per cent at most; 0 where a step makes a single update." },
  { title: "Not decided", group: "Rewards", unit: "completions", keys: { undecided: "" },
    help: "Completions whose reward could not be decided; they are left out of learning. Healthy: none, or few." },
  { title: "Largest load of an expert", group: "Experts", keys: { expert_load_max: "" },
    help: "How many tokens chose the expert that most chose, over the mean of its layer; of the worst layer. Healthy: it falls towards 1 to 2. If it stays at experts over experts per token, one expert gets every token." },
  { title: "Evenness of experts", group: "Experts", percent: true, keys: { expert_load_entropy: "" },
    help: "Entropy of how tokens are spread over the experts of a layer, over that of an even spread; mean over the layers. Healthy: near 100 %." },
  { title: "Range of biases", group: "Experts", keys: { expert_bias_range: "" },
    help: "The largest difference between the biases of two experts of a layer, which even their loads. Healthy: it grows, then stays." },
  { title: "Log-probability gap", group: "Update", keys: { log_prob_gap: "" },
    help: "Largest difference between a token's log-probability when it was sampled and when it was learned from. It is 0 by construction; anything else is a defect." },
  { title: "Time of a step", group: "Time", unit: "s", keys: { step_s: "" }, unless: "generate_s",
    help: "Seconds of a step. Healthy: flat." },
  { title: "Tokens of a step", group: "Time", keys: { tokens: "" },
    help: "Tokens sampled, or learned from, in a step." },
];

// The groups in their order; what no chart knows comes last.
const GROUPS = ["Preferences", "Rewards", "Reward terms", "Writing", "Update", "Time", "Others"];
// The parts of a step's seconds: of what is left of the first, the page makes `other_s`.
const PARTS_OF_STEP = ["step_s", "generate_s", "reward_s", "train_s"];
// What is drawn under no name of its own.
const NOT_CHARTED = ["step", "step_s", "other_s"];

// A term of the reward: `rewards/NAME`, and `rewards/NAME/undecided`. What preferences have under such names has charts above.
const TERM = /^rewards\/([^/]+)$/;
const TERM_UNDECIDED = /^rewards\/([^/]+)\/undecided$/;

/** The charts of the terms of a reward, one a term: each has its own scale. */
function chartsOfTerms(keys) {
  const nameOf = (key) => TERM.exec(key)[1];
  const charts = keys.filter((key) => TERM.test(key)).map((key) => ({
    title: `Reward: ${nameOf(key)}`, group: "Reward terms", keys: { [key]: "" },
    help: `Mean score of the term ${nameOf(key)}, before its weight, of the completions that it decided. Healthy: the terms rise together. If one rises while another falls, or while held-out accuracy falls, the model has found how to please that term: read the rollouts.`,
  }));
  const undecided = keys.filter((key) => TERM_UNDECIDED.test(key));
  if (undecided.length) {
    charts.push({ title: "Not decided, by term", group: "Reward terms", unit: "completions",
      keys: Object.fromEntries(undecided.map((key) => [key, TERM_UNDECIDED.exec(key)[1]])),
      help: "Completions that a term could not decide: a judge that failed or whose verdict can't be read, a text too long for a reward model. They are left out of learning. Healthy: none, or few." });
  }
  return charts;
}

/** The charts to draw for series of these keys, of one run or of several: those that are known in their order, then the rest. */
function chartsFor(keys, several) {
  const named = new Set(NOT_CHARTED);
  for (const chart of CHARTS) {
    Object.keys(chart.keys).forEach((key) => named.add(key));
    Object.values(chart.band ?? {}).flat().forEach((key) => named.add(key));
  }
  const drawn = (chart) => Object.keys(several && chart.together ? chart.together : chart.keys);
  const known = CHARTS.filter((chart) => drawn(chart).some((key) => keys.has(key)) && !(chart.unless && keys.has(chart.unless)));
  const unnamed = [...keys].filter((key) => !named.has(key)).sort();
  const terms = chartsOfTerms(unnamed);
  const others = unnamed.filter((key) => !terms.some((chart) => key in chart.keys));
  return known.concat(terms, others.map((key) => ({ title: key, group: "Others", keys: { [key]: "" }, help: `The value \`${key}\` of metrics.jsonl.` })));
}
