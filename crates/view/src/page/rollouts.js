// What the model wrote in a step, and what it earned for it.

const LONG_THINKING = 6000; // characters: longer thinking is folded at first
const SHADES = 8; // classes of token shading, half a nat each
// Fields of a line that have their own place on the page.
const SHOWN = new Set(["step", "id", "sample", "prompt", "completion", "answer", "finish_reason", "completion_tokens", "log_prob_sum",
  "rewards", "reward", "advantage", "token_texts", "logprobs"]);
const UNITS_OF_PART = 2; // UTF-16 units that a token of a part of a character stands for, at most

/** A number with its sign. */
const signed = (value) => (value > 0 ? `+${short(value)}` : short(value).replace("-", "−"));

class Rollouts {
  constructor() {
    this.nodes = Object.fromEntries(
      ["rollouts", "filter", "step", "earlier", "later", "newest", "problem", "outcome", "sort", "text", "shade", "found", "list",
        "more", "legend"].map((id) => [id, document.getElementById(id)]));
    this.stretches = [];
    this.run = null; // the name of the run whose completions are listed
    this.shown = null; // the step whose completions are listed
    this.asked = 0; // counts requests, so that a late answer to an old request is dropped
    const n = this.nodes;
    n.filter.addEventListener("submit", (event) => event.preventDefault());
    n.step.addEventListener("change", () => this.show(Number(n.step.value)));
    n.earlier.addEventListener("click", () => this.show(this.neighbour(-1)));
    n.later.addEventListener("click", () => this.show(this.neighbour(1)));
    n.newest.addEventListener("change", () => n.newest.checked && this.load(this.last()));
    for (const select of [n.problem, n.outcome, n.sort]) select.addEventListener("change", () => this.load(this.shown));
    let typing;
    n.text.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.load(this.shown), 300);
    });
    n.more.addEventListener("click", () => this.load(this.shown, this.next));
    n.shade.addEventListener("change", () => n.list.classList.toggle("shaded", n.shade.checked));
    n.list.classList.add("shaded");
    for (let shade = 0; shade < SHADES; shade++) {
      n.legend.append(el("span", { className: `token s${shade}` }, `${shade === SHADES - 1 ? "≤ " : ""}${Math.round(100 * Math.exp(-shade / 2))} %`));
    }
    this.restore();
  }

  /** Notes which steps of a run have rollouts; follows the newest if that is selected and no completion is open. */
  update(run, stretches) {
    if (this.run !== null && run !== this.run) {
      this.shown = null;
      this.nodes.newest.checked = true;
      this.nodes.problem.value = "";
      this.nodes.list.replaceChildren();
    }
    this.run = run;
    this.stretches = stretches;
    this.nodes.rollouts.hidden = !stretches.length;
    if (!stretches.length) return;
    this.nodes.step.max = this.last();
    if (this.shown === null && this.wanted !== null) this.show(this.wanted);
    else if (this.shown === null || !this.has(this.shown)) this.load(this.last());
    else if (this.nodes.newest.checked && this.shown !== this.last() && !this.reading()) this.load(this.last());
    this.arrows();
  }

  last() {
    return this.stretches[this.stretches.length - 1][1];
  }

  has(step) {
    return this.stretches.some(([first, last]) => first <= step && step <= last);
  }

  reading() {
    return this.nodes.list.querySelector("details[open]") !== null;
  }

  /** The step with rollouts before or after the one shown. */
  neighbour(way) {
    const step = this.shown + way;
    if (this.has(step)) return step;
    const edges = this.stretches.map(([first, last]) => (way > 0 ? first : last));
    return (way > 0 ? edges.find((edge) => edge > step) : edges.reverse().find((edge) => edge < step)) ?? this.shown;
  }

  /** Shows the step nearest to `step`, and stays on it. */
  show(step) {
    const clamp = ([first, last]) => Math.min(Math.max(step, first), last);
    const near = this.stretches.map(clamp).reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
    this.nodes.newest.checked = near === this.last() && this.nodes.newest.checked;
    this.load(near);
  }

  async load(step, offset = 0) {
    const n = this.nodes;
    const asked = ++this.asked;
    this.shown = step;
    this.wanted = null;
    n.step.value = step;
    this.arrows();
    this.save();
    const query = new URLSearchParams({ run: this.run, step, offset });
    for (const key of ["problem", "outcome", "sort", "text"]) if (n[key].value) query.set(key, n[key].value);
    const reply = await fetch(`api/rollouts?${query.toString().replaceAll("+", "%20")}`).catch(() => null);
    const part = await reply?.json().catch(() => null);
    if (asked !== this.asked) return;
    if (!reply?.ok || !part) {
      n.found.textContent = part?.error ?? "The program that serves this page does not answer.";
      return;
    }
    if (offset === 0) n.list.replaceChildren();
    this.choices(part);
    const lines = part.rollouts;
    const grouped = n.sort.value === "sampled";
    for (const line of lines) {
      if (grouped && line.id !== this.group) n.list.append(this.heading(line, part));
      this.group = line.id;
      n.list.append(this.item(line));
    }
    this.group = part.next === null ? null : this.group;
    this.next = part.next;
    n.more.hidden = part.next === null;
    const known = lines.some((line) => line.logprobs) || (offset > 0 && !n.legend.hidden);
    document.getElementById("shade-label").hidden = n.legend.hidden = !known;
    const unreadable = part.unreadable ? `; ${part.unreadable} lines could not be read` : "";
    n.found.textContent = `Step ${part.step}: ${part.matched} of ${part.total} completions${unreadable}.`;
  }

  /** Offers the problems and outcomes of the step, and keeps what was chosen. */
  choices(part) {
    const set = (select, all, options) => {
      const chosen = select.value;
      if (chosen && !options.some(([value]) => value === chosen)) options.push([chosen, `${chosen} (not in this step)`]);
      select.replaceChildren(el("option", { value: "" }, all), ...options.map(([value, name]) => el("option", { value }, name)));
      select.value = chosen;
    };
    set(this.nodes.problem, "all", part.problems.map((p) => [p.id, `${p.id} (${p.correct} of ${p.completions} correct)`]));
    set(this.nodes.outcome, "all", Object.entries(part.outcomes).map(([name, count]) => [name, `${name.replace("_", " ")} (${count})`]));
  }

  arrows() {
    const first = this.stretches[0]?.[0];
    this.nodes.earlier.disabled = this.shown === null || this.shown <= first;
    this.nodes.later.disabled = this.shown === null || this.shown >= this.last();
  }

  /** Above the completions of a problem: what was asked, and how often it was solved. */
  heading(line, part) {
    const asked = (line.prompt ?? []).findLast?.((message) => message.role === "user") ?? line.prompt?.at(-1);
    const count = part.problems.find((problem) => problem.id === line.id);
    this.group = line.id;
    return el("h3", {},
      el("span", { className: "asked" }, asked ? excerpt(asked.content, 160) : line.id),
      el("span", { className: "quiet" }, ` answer ${excerpt(String(line.answer ?? ""), 60)}`,
        count ? ` · ${count.correct} of ${count.completions} correct ` : " "), recipes.traceLink(line.id));
  }

  /** A completion: one line, which opens to show everything about it. */
  item(line) {
    const outcome = line.rewards?.[0]?.outcome ?? "none";
    const { answer } = split(line.completion);
    const said = answer ? line.completion.slice(...answer) : line.completion;
    const node = el("details", { className: "rollout" }, el("summary", {},
      el("span", { className: `outcome ${outcome}` }, outcome.replace("_", " ")),
      el("span", { className: "number", title: "reward" }, line.reward === null ? "masked" : `reward ${short(line.reward)}`),
      advantage(line),
      el("span", { className: "number", title: "tokens of the completion" }, `${line.completion_tokens} tok`),
      line.finish_reason === "length" ? el("span", { className: "cut" }, "cut") : null,
      el("span", { className: "said" }, excerpt(said, 200))));
    node.addEventListener("toggle", () => {
      if (node.open && node.children.length === 1) node.append(this.body(line));
    });
    return node;
  }

  body(line) {
    const pieces = piecesOf(line);
    const parts = split(pieces.map((piece) => piece.text).join(""));
    const part = (name, className, ...content) => el("section", { className }, el("h4", {}, name), ...content);
    const text = (...content) => el("pre", { dir: "auto", className: "text" }, ...content);
    const body = el("div", { className: "body" });
    for (const message of line.prompt ?? []) body.append(part(`Prompt · ${message.role}`, "prompt", text(message.content)));
    if (parts.thinking) {
      const thought = el("details", { className: "thinking", open: parts.thinking[1] - parts.thinking[0] < LONG_THINKING },
        el("summary", {}, parts.answer ? "Thinking" : "Thinking (not ended)"), text(shaded(pieces, parts.thinking)));
      body.append(thought);
    }
    if (parts.answer) body.append(part(parts.thinking ? "Answer" : "Completion", "answer", text(shaded(pieces, parts.answer))));
    body.append(part("Reference answer", "reference", text(String(line.answer ?? "none"))));
    body.append(part("Rewards", "rewards", rewards(line)));
    const mean = line.completion_tokens ? line.log_prob_sum / line.completion_tokens : 0;
    body.append(el("p", { className: "quiet facts" }, [
      `problem ${line.id}`, `sample ${line.sample}`, `${line.completion_tokens} tokens`, `finish reason ${line.finish_reason}`,
      line.advantage === null ? "masked: no part in learning" : `advantage ${signed(line.advantage)}`,
      `log-probability ${short(line.log_prob_sum)}, per token ${short(mean)}`,
    ].join(" · ")));
    const more = Object.fromEntries(Object.entries(line).filter(([key]) => !SHOWN.has(key)));
    if (Object.keys(more).length) {
      body.append(el("details", { className: "meta" }, el("summary", {}, "More about the problem"), text(JSON.stringify(more, null, 1))));
    }
    return body;
  }

  /** The state of the form, kept in the address, so that a link or a reload comes back to it. */
  save() {
    const n = this.nodes;
    const state = new URLSearchParams();
    if (this.several) state.set("run", this.run);
    if (!n.newest.checked) state.set("step", this.shown);
    for (const key of ["problem", "outcome", "text"]) if (n[key].value) state.set(key, n[key].value);
    if (n.sort.value !== "sampled") state.set("sort", n.sort.value);
    history.replaceState(null, "", `#${state}`);
  }

  restore() {
    const n = this.nodes;
    const state = new URLSearchParams(location.hash.slice(1));
    const step = state.get("step");
    this.wanted = step !== null && /^\d{1,15}$/.test(step) ? Number(step) : null;
    n.newest.checked = this.wanted === null;
    n.text.value = state.get("text") ?? "";
    if (state.has("sort")) n.sort.value = state.get("sort");
    n.sort.value ||= "sampled";
    for (const key of ["problem", "outcome"]) {
      const value = state.get(key);
      if (value) n[key].append(el("option", { value }, value));
      n[key].value = value ?? "";
    }
  }
}

function excerpt(text, length) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > length ? `${line.slice(0, length)}…` : line;
}

function advantage(line) {
  const value = line.advantage;
  if (value === null || value === undefined) return el("span", { className: "number", title: "advantage" }, "–");
  const side = value > 0 ? "up" : value < 0 ? "down" : "";
  return el("span", { className: `number ${side}`, title: "advantage: above 0, learning makes it more likely" }, signed(value));
}

function rewards(line) {
  const names = ["reward", "outcome", "score", "weight", "answer read", "reason"];
  // On a narrow screen a row is a block, and each cell says its column's name.
  const row = (className, ...cells) => el("tr", { className }, ...cells.map((content, i) =>
    el("td", { "data-name": names[i], className: content === "" ? "none" : "" }, content)));
  const score = (value) => (value === null || value === undefined ? "masked" : short(value));
  const outcome = (term) => el("span", { className: `outcome ${term.outcome}` }, String(term.outcome).replace("_", " "));
  const rows = (line.rewards ?? []).map((term) =>
    row("", String(term.kind), outcome(term), score(term.score), `× ${short(term.weight)}`, term.parsed ?? "–", term.reason ?? ""));
  const sum = row("sum", "sum", "", score(line.reward), "", "", "");
  const head = el("tr", {}, ...names.map((name) => el("th", {}, name)));
  return el("table", { className: "terms" }, el("thead", {}, head), el("tbody", {}, ...rows, sum));
}

/**
 * A completion as its tokens, each with its text and log-probability; as one piece if these were not kept.
 *
 * A token's text alone is not always its part of the completion: if several tokens make one character, each has the text U+FFFD;
 * a first space may be missing; and a special token has its name as text, which the completion leaves out.
 */
function piecesOf(line) {
  const { completion, token_texts: texts, logprobs } = line;
  if (!Array.isArray(texts) || !Array.isArray(logprobs) || texts.length !== logprobs.length) return [{ text: completion }];
  let at = 0, parts = []; // how much of the completion is placed; tokens that wait for their character to be whole
  const pieces = texts.map((text, i) => ({ text: String(text), token: String(text), logProb: Number(logprobs[i]) }));
  const place = (tokens, end) => {
    const [first, ...others] = tokens;
    for (const other of others) {
      first.logProb += other.logProb;
      other.text = "";
    }
    first.text = completion.slice(at, end);
    at = end;
  };
  for (const piece of pieces) {
    const { token } = piece;
    if (token.includes("\ufffd") && !completion.startsWith(token, at)) {
      parts.push(piece);
      continue;
    }
    const most = parts.length ? UNITS_OF_PART * parts.length : 1;
    const skipped = completion.slice(at, at + most + token.length).indexOf(token);
    if (skipped < 0) continue; // a special token: its text is its name
    if (parts.length) place(parts, at + skipped);
    parts = [];
    place([piece], completion.indexOf(token, at) + token.length);
  }
  if (parts.length && at < completion.length) place(parts, completion.length);
  return pieces;
}

/** The characters from `start` to `end` of a completion's pieces, each shaded by how likely its token was. */
function shaded(pieces, [start, end]) {
  const nodes = document.createDocumentFragment();
  let at = 0;
  for (const { text, token, logProb } of pieces) {
    const said = text.slice(Math.max(0, start - at), Math.max(0, end - at));
    at += text.length;
    if (token === undefined) nodes.append(said);
    else if (said) {
      const shade = Math.min(SHADES - 1, Math.max(0, Math.floor(-2 * logProb + 0.5)));
      const title = `${JSON.stringify(token)} probability ${short(100 * Math.exp(logProb))} %, log ${short(logProb)}`;
      nodes.append(el("span", { className: `token s${shade}`, title }, said));
    }
  }
  return nodes;
}
