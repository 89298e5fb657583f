// The runs that are shown: their numbers, how each is, and what tells them apart.

const COLORS = 8;
const SHOWN_AT_FIRST = 6; // runs: the newest, if a folder has many
const FEW_DIFFERENCES = 8; // settings: as many are not folded
const PARTS_BEFORE_DRAWING = 16; // parts of long metrics, each a megabyte of the file

/** A duration in words. */
function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days ${Math.floor((s % 86400) / 3600)} h`;
}

async function ask(path) {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error((await reply.json().catch(() => null))?.error ?? `the server answers ${reply.status}`);
  return reply.json();
}

class Run {
  constructor(name, color) {
    this.name = name;
    this.color = color;
    this.visible = false;
    this.overview = null;
    this.forget();
  }

  forget() {
    this.columns = new Map(); // key → series
    this.place = { next: 0, mark: "" }; // how far metrics.jsonl is read
    this.unreadable = 0;
    this.drawnAt = 0;
  }

  /** Reads the lines that were added; all of them, if the run was resumed and repeats some steps. `onPart` is called now and then. */
  async read(onPart) {
    let changed = false;
    for (let parts = 1; ; parts++) {
      const query = `run=${encodeURIComponent(this.name)}&from=${this.place.next}&mark=${this.place.mark}`;
      const part = await ask(`api/metrics?${query}`);
      if (part.restarted) this.forget();
      this.add(part);
      this.place = { next: part.next, mark: part.mark };
      changed ||= part.restarted || part.rows.length > 0;
      if (!part.more) return changed;
      if (parts % PARTS_BEFORE_DRAWING === 0) onPart();
    }
  }

  add({ keys, rows, unreadable }) {
    this.unreadable += unreadable;
    const series = keys.map((key) => {
      if (!this.columns.has(key)) this.columns.set(key, { x: [], y: [] });
      return this.columns.get(key);
    });
    const [steps] = series;
    const places = PARTS_OF_STEP.map((key) => keys.indexOf(key));
    for (const row of rows) {
      const step = row[0];
      if (steps.x.length && step < steps.x[steps.x.length - 1]) continue;
      row.forEach((value, i) => {
        if (value !== null) append(series[i], step, value === "NaN" ? NaN : value);
      });
      const [whole, ...parts] = places.map((i) => row[i] ?? null);
      if (whole !== null && parts.some((part) => part !== null)) {
        if (!this.columns.has("other_s")) this.columns.set("other_s", { x: [], y: [] });
        append(this.columns.get("other_s"), step, Math.max(0, parts.reduce((left, part) => left - (part ?? 0), whole)));
      }
    }
  }

  step() {
    return this.columns.get("step")?.x.at(-1) ?? this.overview?.step ?? 0;
  }

  /** Its state in a word: a run that has made no step is waiting. */
  state() {
    return this.overview.state === "training" && this.step() === 0 ? "waiting" : this.overview.state;
  }

  /** How far it is. */
  progress() {
    const { steps, step_s: pace, state } = this.overview;
    const step = this.step();
    const words = [steps ? `Step ${step} of ${steps}` : `Step ${step}`];
    const seconds = (this.columns.get("step_s")?.y ?? []).reduce((sum, s) => sum + (Number.isFinite(s) ? s : 0), 0);
    if (seconds) words.push(`${duration(seconds)} of steps`);
    if (state === "training" && steps && pace) words.push(`about ${duration(Math.max(0, steps - step) * pace)} left`);
    return words.join(" · ");
  }

  /** What there is to say of its state, in sentences. */
  words() {
    const { message, quiet_s: quiet } = this.overview;
    const goesOn = this.step() ? "--resume goes on from its last checkpoint." : "It made no step.";
    const sentences = [{
      waiting: "It runs and has made no step yet: it loads its model and data, or measures held-out problems.",
      training: "",
      finished: this.step() ? "Its training is done; the model is in its folder model/." : "It ended without a step.",
      stopped: `It was asked to stop (Ctrl-C or a signal). ${goesOn}`,
      failed: `It ended with an error${message ? `: ${message}` : ""}. ${goesOn}`,
      killed: `Its process ended without a word: it was killed, ran out of memory, or lost its machine. ${goesOn}`,
      silent: `Nothing was written for ${duration(quiet)}: it has ended, hangs, or runs on another machine.`,
      unreadable: message ?? "",
    }[this.state()]];
    for (const [key, { x, y }] of this.columns) {
      const odd = y.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
      if (odd) sentences.push(`${key} is not a number at ${odd === 1 ? "" : `${odd} steps, first at `}step ${x[y.findIndex((value) => !Number.isFinite(value))]}.`);
    }
    if (this.unreadable) sentences.push(`${this.unreadable} ${this.unreadable === 1 ? "line" : "lines"} of metrics.jsonl can't be read.`);
    return sentences.filter(Boolean).join(" ");
  }
}

class Runs {
  /** `onChange` is called when other runs are to be shown. */
  constructor(onChange) {
    this.onChange = onChange;
    this.all = [];
    this.list = document.getElementById("runs");
    this.compared = "";
  }

  shown() {
    return this.all.filter((run) => run.visible);
  }

  /** Asks which runs there are and how each is. */
  async update() {
    const listed = await ask("api/runs");
    const known = new Map(this.all.map((run) => [run.name, run]));
    const begins = this.all.length === 0;
    this.all = listed.map((overview) => {
      const run = known.get(overview.run) ?? new Run(overview.run, `r${this.freeColor(known)}`);
      known.set(run.name, run);
      run.overview = overview;
      return run;
    });
    if (begins) this.all.slice(0, SHOWN_AT_FIRST).forEach((run) => { run.visible = true; });
  }

  /** The colour that fewest runs have. */
  freeColor(known) {
    const uses = new Array(COLORS).fill(0);
    for (const run of known.values()) uses[Number(run.color.slice(1))]++;
    return uses.indexOf(Math.min(...uses));
  }

  /** Draws the list of runs; of one there is none. */
  draw() {
    this.list.hidden = this.all.length < 2;
    if (this.list.hidden) return;
    const names = this.all.map((run) => run.name).join("\n");
    if (names !== this.names) {
      this.names = names;
      this.list.replaceChildren(...this.all.map((run) => this.item(run)));
    }
    for (const run of this.all) {
      run.nodes.state.textContent = run.state();
      run.nodes.state.className = `pill ${run.state()}`;
      run.nodes.progress.textContent = run.progress();
      run.nodes.words.textContent = run.state() === "finished" ? "" : run.words();
      run.nodes.box.checked = run.visible;
    }
  }

  item(run) {
    const box = el("input", { type: "checkbox" });
    const state = el("span", { className: "pill" }), progress = el("span", { className: "quiet" });
    const words = el("p", { className: "quiet words" });
    box.addEventListener("change", () => {
      run.visible = box.checked;
      this.onChange();
    });
    run.nodes = { box, state, progress, words };
    return el("li", {},
      el("label", {}, box, el("i", { className: `swatch ${run.color}` }), el("b", {}, run.name)), state, progress,
      el("a", { href: csvOf([run]) }, "CSV"), words);
  }

  /** Draws in which settings the shown runs differ, if these are others than before. */
  async compare() {
    const runs = this.shown();
    const query = runs.map((run) => `run=${encodeURIComponent(run.name)}`).join("&");
    if (query === this.compared) return;
    const rows = runs.length > 1 ? await ask(`api/differences?${query}`) : [];
    this.compared = query;
    const node = document.getElementById("differences");
    node.hidden = runs.length < 2;
    node.open = rows.length > 0 && rows.length <= FEW_DIFFERENCES;
    node.querySelector("summary").textContent = rows.length ? `Settings that differ (${rows.length})` : "Their settings are the same";
    const head = el("tr", {}, el("th", {}, ""), ...runs.map((run) => el("th", {}, el("i", { className: `swatch ${run.color}` }), run.name)));
    const body = rows.map(({ key, values }) => el("tr", {}, el("th", {}, key), ...values.map((value) => el("td", {}, value ?? "–"))));
    node.querySelector("table").replaceChildren(...(rows.length ? [el("thead", {}, head), el("tbody", {}, ...body)] : []));
  }
}
