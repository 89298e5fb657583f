// The steps of a recipe, one below the other, with a line from each to those that read what it makes.

const STATES = { "": "not begun", running: "being made", done: "made", waiting: "waits for people" };
const PILLS = { "": "todo", running: "training", done: "finished", waiting: "waiting", interrupted: "killed" };
const LANES = [11, 6]; // pixels between two lines, on a wide page and on a narrow one
const NARROW = 600; // pixels
const MOST_LANES = 9;

/** A count, in a unit that suits it. */
function compact(n) {
  if (n < 10000) return String(n);
  const [size, unit] = n < 1e6 ? [1e3, "K"] : n < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${(n / size).toFixed(1)} ${unit}`;
}

/** What something cost, in words; what is not known of it is not said. */
function costWords({ seconds, tokens_drawn: drawn, tokens_trained: trained, flops, peak_share: share, energy_wh: energy, energy_source: source, money }) {
  const words = [];
  if (seconds) words.push(seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds));
  if (drawn) words.push(`${compact(drawn)} tokens drawn`);
  if (trained) words.push(`${compact(trained)} trained`);
  if (flops) words.push(`${flops.toExponential(2)} FLOPs`);
  if (Number.isFinite(share)) words.push(`${(100 * share).toFixed(1)}% of the peak`);
  if (Number.isFinite(energy)) words.push(`${energy.toFixed(2)} Wh${source === "measured" ? " measured" : ""}`);
  if (Number.isFinite(money)) words.push(`costs ${money.toFixed(4)}`);
  return words.join(" · ");
}

/** What a step is measured by, in words. */
function figureWords(figures) {
  const number = (value) => Number.isInteger(value) ? compact(value) : value.toPrecision(4);
  const words = [];
  for (const [key, value] of Object.entries(figures ?? {})) {
    if (typeof value === "number") words.push(`${key} ${number(value)}`);
    const middle = value?.accuracy ?? value?.value;
    if (typeof middle !== "number") continue;
    const { low, high } = value;
    const between = typeof low === "number" && typeof high === "number";
    const percent = (x) => (100 * x).toFixed(1);
    if (typeof value.accuracy === "number") words.push(`${percent(middle)}% right${between ? ` (95% interval ${percent(low)} to ${percent(high)})` : ""}`);
    else words.push(`${key} ${number(middle)}${between ? ` (${number(low)} to ${number(high)})` : ""}`);
  }
  return words.join(", ");
}

class Steps {
  /** `onOpen` is called with a step whose run is to be shown. */
  constructor(list, onOpen) {
    this.list = list;
    this.onOpen = onOpen;
    this.lines = svg("svg", { class: "lines", "aria-hidden": "true" });
    this.rows = new Map(); // name → its row, and what is drawn there
    this.steps = [];
    new ResizeObserver(() => this.drawLines()).observe(list);
  }

  update(steps) {
    this.steps = steps;
    const names = steps.map((step) => step.name).join("\n");
    if (names !== this.names) {
      this.names = names;
      this.rows.clear();
      this.list.replaceChildren(this.lines, ...steps.map((step) => this.row(step)));
    }
    for (const step of steps) {
      const row = this.rows.get(step.name);
      const drawn = JSON.stringify(step);
      if (row.drawn === drawn) continue;
      row.drawn = drawn;
      this.fill(row.node, step);
    }
    this.drawLines();
  }

  row({ name }) {
    const node = el("li", {});
    for (const event of ["mouseenter", "focusin"]) node.addEventListener(event, () => this.mark(name));
    node.addEventListener("mouseleave", () => this.mark(null));
    this.rows.set(name, { node, drawn: "" });
    return node;
  }

  fill(node, step) {
    const open = node.querySelector("details")?.open ?? false;
    const head = el("div", { className: "step" }, el("i", { className: "knot" }), el("b", {}, step.name), el("span", { className: "quiet" }, step.kind),
      el("span", { className: `pill ${PILLS[step.state] ?? step.state}` }, STATES[step.state] ?? step.state));
    if (step.run !== null) {
      const button = el("button", { type: "button" }, "open its run");
      button.addEventListener("click", () => this.onOpen(step));
      head.append(button);
    }
    const words = [figureWords(step.figures), costWords(step)].map((text) => (text ? el("p", { className: "quiet" }, text) : null));
    const message = step.message ? el("p", { className: step.state === "failed" || step.state === "unreadable" ? "message bad" : "message" }, step.message) : null;
    const reads = step.reads.length ? el("p", { className: "quiet" }, "reads ", ...step.reads.flatMap((name, i) => [i ? ", " : "", this.link(name)])) : null;
    node.replaceChildren(head, ...[reads, ...words, message, this.artefacts(step, open)].filter(Boolean));
  }

  /** What a step read and made, by hash. */
  artefacts({ inputs, outputs, code }, open) {
    const rows = [...inputs.map(({ key, from, sha256 }) => [`read as ${key}`, from, sha256]), ...outputs.map(({ path, sha256 }) => ["made", path, sha256])];
    if (!rows.length) return null;
    if (code) rows.push(["by koan", code, ""]);
    const cells = (row) => row.map((text, i) => el(i ? "td" : "th", i === 2 ? { className: "hash" } : {}, text));
    return el("details", { open }, el("summary", {}, "Read and made, by SHA-256"),
      el("div", { className: "wide" }, el("table", {}, el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))))));
  }

  /** Leads to a step. */
  link(name) {
    const button = el("button", { type: "button", className: "link" }, name);
    button.addEventListener("click", () => this.show(name));
    return button;
  }

  show(name) {
    const row = this.rows.get(name);
    row?.node.scrollIntoView({ behavior: "smooth", block: "center" });
    this.mark(name);
  }

  mark(name) {
    this.marked = name;
    for (const line of this.lines.children) line.classList.toggle("on", name !== null && (line.dataset.from === name || line.dataset.to === name));
  }

  /** Lines from step to step: straight to the next, in lanes of their own to others. */
  drawLines() {
    const places = new Map(this.steps.map((step, i) => [step.name, i]));
    const edges = this.steps.flatMap((step, to) => step.reads.filter((name) => places.has(name)).map((name) => [places.get(name), to]));
    edges.sort((a, b) => (a[1] - a[0]) - (b[1] - b[0]));
    const lanes = [], apart = LANES[this.list.clientWidth < NARROW ? 1 : 0];
    const laneOf = ([from, to]) => {
      if (to - from === 1) return 0;
      let lane = 0;
      while (lane < MOST_LANES - 1 && (lanes[lane] ?? []).some(([a, b]) => from < b && a < to)) lane++;
      (lanes[lane] ??= []).push([from, to]);
      return lane + 1;
    };
    const placed = edges.map((edge) => [...edge, laneOf(edge)]);
    const width = (lanes.length + 1) * apart + 8;
    this.list.style.setProperty("--lines", `${width}px`);
    const top = this.list.getBoundingClientRect().top;
    const middles = this.steps.map(({ name }) => {
      const knot = this.rows.get(name).node.querySelector(".knot").getBoundingClientRect();
      return knot.top + knot.height / 2 - top;
    });
    this.lines.setAttribute("width", width);
    this.lines.setAttribute("height", this.list.scrollHeight);
    const x = width - 8;
    this.lines.replaceChildren(...placed.map(([from, to, lane]) => {
      const [a, b, out] = [middles[from], middles[to], x - lane * apart];
      const turn = Math.min(14, (b - a) / 2);
      const d = lane ? `M${x} ${a}Q${out} ${a} ${out} ${a + turn}V${b - turn}Q${out} ${b} ${x} ${b}` : `M${x} ${a}V${b}`;
      const line = svg("path", { d });
      line.dataset.from = this.steps[from].name;
      line.dataset.to = this.steps[to].name;
      return line;
    }));
    this.mark(this.marked ?? null);
  }
}
