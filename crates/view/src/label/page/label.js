// The labelling page: shows two answers, or one, and posts what a person says of them.

const byId = (id) => document.getElementById(id);
const MAX_RENDERED = 60000; // characters of a text that are drawn as Markdown; the rest is shown as it is, when asked for

const NAMES = { a: "the first is better", b: "the second is better", tie: "a tie", both_bad: "both bad", good: "good", bad: "bad", skip: "skipped" };

/** What can be said: [what is posted, its name, the keys, the class of its button]. */
function votesOf(scale) {
  if (scale === null) {
    return [
      ["a", "First is better", ["1", "ArrowLeft"], "side"], ["tie", "Tie", ["t", "0"], ""],
      ["both_bad", "Both bad", ["b"], ""], ["b", "Second is better", ["2", "ArrowRight"], "side"],
    ];
  }
  if (scale === 2) return [["bad", "Bad", ["1", "ArrowLeft"], "side"], ["good", "Good", ["2", "ArrowRight"], "side"]];
  return Array.from({ length: scale }, (_, i) => [i + 1, String(i + 1), [String(i + 1)], "side"]);
}
const STRENGTHS = [["", "unsaid", "6"], ["1", "slightly", "7"], ["2", "clearly", "8"], ["3", "far better", "9"]];

class Page {
  constructor() {
    this.name = new URLSearchParams(location.search).get("name")?.trim().slice(0, 40) || null;
    this.standing = null;
    this.held = new Map(); // items that are loaded: the one shown and the next
    this.shown = null; // the item on the page
    this.isBusy = false;
    this.seen = 0; // milliseconds that it was looked at
    this.since = null;
    byId("person").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter(byId("name").value.trim());
    });
    byId("rename").addEventListener("click", () => this.ask());
    byId("skip").addEventListener("click", () => this.vote("skip"));
    byId("undo").addEventListener("click", () => this.undo());
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    document.addEventListener("keydown", (event) => {
      if (this.onKey(event)) event.preventDefault();
    });
    document.addEventListener("visibilitychange", () => this.tick());
    // What lies under the controls can be scrolled above them, however high they are.
    new ResizeObserver(() => {
      document.body.style.paddingBottom = `${byId("controls").offsetHeight + 20}px`;
    }).observe(byId("controls"));
    byId("comment").addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        event.target.blur();
      }
    });
    if (this.name) this.enter(this.name);
    else this.ask();
  }

  /** Asks for the person's name. */
  ask() {
    byId("person").hidden = false;
    byId("work").hidden = byId("controls").hidden = byId("done").hidden = byId("rename").hidden = true;
    byId("who").textContent = "";
    this.shown = null;
    byId("name").value = this.name ?? "";
    byId("name").focus();
  }

  async enter(name) {
    if (!name) return;
    this.name = name;
    this.held.clear();
    history.replaceState(null, "", `?name=${encodeURIComponent(name)}`);
    byId("person").hidden = true;
    byId("rename").hidden = false;
    byId("who").textContent = name;
    await this.act(() => this.request(`api/standing?name=${encodeURIComponent(name)}`));
  }

  /** The answer to a request; an error that says why there is none. */
  async request(address, body) {
    const options = body ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {};
    const reply = await fetch(address, options).catch(() => null);
    if (!reply) throw new Refusal("The program that serves this page does not answer; it may have ended. What you voted so far is kept. Start it again, then try again.", 0);
    const answer = await reply.json().catch(() => null);
    if (!reply.ok || !answer) throw new Refusal(answer?.error ?? `The program answers with an error (${reply.status}).`, reply.status);
    return answer;
  }

  /** Does what changes a person's standing, and shows what comes next. One thing at a time. */
  async act(request, said = "") {
    if (this.isBusy) return;
    this.setBusy(true);
    try {
      this.standing = await request();
      await this.show();
      byId("trouble").hidden = true;
      const { mine, left } = this.standing;
      byId("status").textContent = said && left ? `${said} Now ${mine + 1} of ${mine + left}.` : said;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      byId("trouble").textContent = error.message;
      byId("trouble").hidden = false;
      if (error.status === 409) await this.resume();
    } finally {
      this.setBusy(false);
    }
    this.prepare();
  }

  /** After a vote that was given elsewhere: goes on from where the person stands. */
  async resume() {
    try {
      this.standing = await this.request(`api/standing?name=${encodeURIComponent(this.name)}`);
      await this.show();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    byId("answers").setAttribute("aria-busy", String(isBusy));
    // The others stay as they are: a button that is disabled loses the focus.
    if (!isBusy) byId("undo").disabled = !this.standing?.last;
  }

  keyOf({ item, repeat }) {
    return `${item} ${repeat}`;
  }

  async load(asked) {
    const key = this.keyOf(asked);
    if (!this.held.has(key)) {
      const query = `name=${encodeURIComponent(this.name)}&item=${asked.item}&repeat=${asked.repeat}`;
      const loading = this.request(`api/item?${query}`);
      loading.catch(() => this.held.delete(key));
      this.held.set(key, loading);
    }
    return this.held.get(key);
  }

  /** Loads what comes after what is shown. */
  prepare() {
    const { current, next } = this.standing ?? {};
    const keep = [current, next].filter(Boolean).map((asked) => this.keyOf(asked));
    for (const key of this.held.keys()) if (!keep.includes(key)) this.held.delete(key);
    if (next) this.load(next).catch(() => null);
  }

  async show() {
    const { current, mine, left, last, all, settings } = this.standing;
    const item = current && (await this.load(current));
    const isPair = settings.rate === null;
    byId("question").textContent = isPair ? "Which answer is better?" : settings.rate === 2 ? "Is this answer good?" : "How good is this answer?";
    const everybody = all.votes >= all.wanted ? "all done" : `${all.votes} of ${all.wanted} by everybody`;
    byId("progress").textContent = `${mine} done, ${left} left · ${everybody}`;
    byId("bar").value = mine + left ? mine / (mine + left) : 1;
    document.title = `${mine}/${mine + left} · Koan: ${isPair ? "which is better?" : "rate"}`;
    byId("done").hidden = item !== null;
    byId("work").hidden = item === null;
    byId("controls").hidden = item === null && !last;
    byId("done-words").textContent = all.votes >= all.wanted
      ? `Every ${isPair ? "pair" : "answer"} has its votes: thank you. You can take your last vote back, or close the page.`
      : "You have seen everything that needs your vote; others have still to vote. You can take your last vote back, or close the page.";
    this.drawControls(settings.rate, item !== null);
    this.shown = current;
    if (!item) return;
    byId("prompt").replaceChildren(...prompt(item.prompt));
    const heads = isPair ? ["First", "Second"] : ["Answer"];
    byId("answers").className = isPair ? "" : "one";
    byId("answers").replaceChildren(...item.answers.map((text, i) => answer(heads[i], text)));
    byId("comment").value = "";
    window.scrollTo(0, 0);
    this.seen = 0;
    this.since = document.visibilityState === "visible" ? performance.now() : null;
  }

  /** The buttons, made once for a kind of vote. */
  drawControls(rate, isOpen) {
    this.votes = votesOf(rate);
    const votes = byId("votes");
    if (votes.dataset.kind !== String(rate)) {
      votes.dataset.kind = String(rate);
      votes.className = rate > 2 ? "scale" : "";
      votes.replaceChildren(...this.votes.map(([vote, name, keys, className]) => {
        const button = el("button", { type: "button", className, "data-vote": vote }, name, name === keys[0] ? null : el("kbd", {}, keys[0]));
        button.addEventListener("click", () => this.vote(vote));
        return button;
      }));
      byId("strengths").replaceChildren(...(rate === null ? [el("span", { className: "quiet" }, "How much?"), ...STRENGTHS.map(([value, name]) =>
        el("label", {}, el("input", { type: "radio", name: "strength", value, checked: value === "" }), name))] : []));
      const words = rate === null
        ? "Read the prompt, then both answers. Say which you would rather have got; if neither is better, a tie; if neither is any good, both bad."
        : rate === 2 ? "Read the prompt, then the answer. Say whether you would be content with it." : `Read the prompt, then the answer. Rate it from 1 (useless) to ${rate} (could not be better).`;
      byId("help-words").textContent = words;
      const keys = [
        ...this.votes.map(([, name, keys]) => [keys, rate > 2 ? `rate ${name}` : name]),
        ...(rate === null ? [[["7", "8", "9"], "first say how much better: slightly, clearly, far"]] : []),
        [["s"], "skip: you are not asked again, others are"], [["u", "Backspace"], "take your last vote back"],
        [["c"], "write a comment; Enter goes back"], [["h"], "open or fold the thinking"], [["?"], "this help"],
      ];
      byId("keys").replaceChildren(...keys.map(([keys, name]) => el("tr", {},
        el("td", {}, ...keys.flatMap((key) => [el("kbd", {}, key.replace("ArrowLeft", "←").replace("ArrowRight", "→")), " "])), el("td", {}, name))));
    }
    votes.hidden = byId("skip").hidden = byId("comment").hidden = !isOpen;
    byId("strengths").hidden = !isOpen || rate !== null;
    const [unsaid] = document.getElementsByName("strength");
    if (unsaid) unsaid.checked = true;
  }

  /** Counts the time in which the page was looked at. */
  tick() {
    const now = performance.now();
    if (this.since !== null) this.seen += now - this.since;
    this.since = document.visibilityState === "visible" ? now : null;
  }

  async vote(vote) {
    if (!this.shown || this.isBusy) return;
    this.tick();
    const side = { a: 0, b: 1 }[vote];
    const strength = side === undefined ? "" : document.querySelector("[name=strength]:checked")?.value ?? "";
    if (side !== undefined) byId("answers").children[side]?.classList.add("chosen");
    const body = { name: this.name, ...this.shown, vote, comment: byId("comment").value, seconds: this.seen / 1000 };
    if (strength) body.strength = Number(strength);
    await this.act(() => this.request("api/vote", body), `Kept: ${NAMES[vote] ?? `rated ${vote}`}.`);
    for (const node of byId("trouble").hidden ? [] : byId("answers").children) node.classList.remove("chosen");
  }

  async undo() {
    if (!this.standing?.last || this.isBusy) return;
    const { mine, last } = this.standing;
    const was = last === "a" || last === "b" ? "a vote for one of these" : NAMES[last] ?? `rated ${last}`;
    await this.act(() => this.request("api/undo", { name: this.name, votes: mine }), `Taken back: ${was}.`);
  }

  /** Does what a key stands for; whether it stands for anything. */
  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return false;
    if (event.target.matches("input:not([type=radio]), textarea, select")) return false;
    // There, arrows choose or scroll.
    if (event.key.startsWith("Arrow") && event.target.matches("input, pre")) return false;
    if (event.key === "?") byId("help").showModal();
    else if (!this.standing || !byId("person").hidden) return false;
    else if (event.key === "u" || event.key === "Backspace") this.undo();
    else if (!this.shown) return false;
    else if (event.key === "s") this.vote("skip");
    else if (event.key === "c") byId("comment").focus();
    else if (event.key === "h") this.fold();
    else {
      const strength = this.standing.settings.rate === null && STRENGTHS.find(([, , key]) => key === event.key);
      const vote = this.votes.find(([, , keys]) => keys.includes(event.key));
      if (strength) document.querySelector(`[name=strength][value="${strength[0]}"]`).checked = true;
      else if (vote && !event.repeat) this.vote(vote[0]);
      else return false;
    }
    return true;
  }

  fold() {
    const all = [...byId("answers").querySelectorAll(".thinking")];
    const open = !all.some((node) => node.open);
    for (const node of all) node.open = open;
  }
}

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** A text as Markdown; what is very long is shown further on demand. */
function text(source) {
  const node = el("div", { className: "text", dir: "auto" });
  if (!source.trim()) {
    node.append(el("p", { className: "empty" }, "(empty)"));
    return node;
  }
  let cut = source.length > MAX_RENDERED ? MAX_RENDERED : source.length;
  if (cut < source.length && /[\ud800-\udbff]/.test(source[cut - 1])) cut--;
  node.append(...markdown(source.slice(0, cut)));
  if (cut < source.length) {
    const more = el("button", { type: "button" }, `Show the other ${(source.length - cut).toLocaleString("en")} characters as they are`);
    more.addEventListener("click", () => more.replaceWith(el("pre", { className: "plain" }, source.slice(cut))));
    node.append(el("p", {}, more));
  }
  return node;
}

/** A text whose thinking is folded. */
function thought(source) {
  const parts = split(source);
  const nodes = [];
  if (parts.thinking) {
    const thinking = source.slice(...parts.thinking);
    if (thinking.trim()) {
      const fold = el("details", { className: "thinking" },
        el("summary", {}, `Thinking, ${thinking.length.toLocaleString("en")} characters${parts.answer ? "" : " (it has not ended)"}`));
      fold.addEventListener("toggle", () => fold.open && fold.children.length === 1 && fold.append(text(thinking)));
      nodes.push(fold);
    }
  }
  if (parts.answer) nodes.push(text(source.slice(...parts.answer).trim()));
  return nodes;
}

function prompt(messages) {
  const [only] = messages;
  if (messages.length === 1 && only.role === "user") return [el("p", { className: "title" }, "Prompt"), text(only.content)];
  return messages.flatMap(({ role, content }) => [el("p", { className: "role" }, role), ...(role === "assistant" ? thought(content) : [text(content)])]);
}

function answer(head, source) {
  return el("article", { className: "answer", "aria-label": `${head} answer` }, el("h2", { className: "title" }, head), ...thought(source));
}

const page = new Page();
