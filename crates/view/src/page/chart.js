// A chart of one or more series over steps, of one or more runs, as SVG.

const HEIGHT = 168;
const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };
const PLAIN_COLORS = 4; // of a chart of one run; one with more series has the colours of runs
const RUN_COLORS = 8;
const DASHES = ["", "5 3", "1 3", "8 3 1 3"]; // of the series of a chart that shows several runs

/** A number in few characters. */
function short(value) {
  if (!Number.isFinite(value)) return "not a number";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e9 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  if (size >= 1e6) return `${short(value / 1e6)}M`;
  if (size >= 1e4) return `${short(value / 1e3)}k`;
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

/** Round values from `low` to `high`, about `count` of them. */
function ticks(low, high, count, whole = false) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

class Chart {
  /** `shared` has smoothing, the cursor (a step or null), onCursor(step) and onPick(step). */
  constructor(spec, shared) {
    this.spec = spec;
    this.shared = shared;
    this.scale = spec.percent ? 100 : 1;
    this.unit = spec.percent ? "%" : spec.unit ?? "";
    this.legend = el("div", { className: "legend" });
    this.csv = el("a", { className: "csv", title: "these values as a table" }, "CSV");
    this.plot = svg("svg", { height: HEIGHT, tabindex: 0, role: "slider", "aria-label": spec.title });
    this.node = el("figure", { className: "chart" },
      el("figcaption", {}, el("span", { className: "name" }, spec.title), " ", el("span", { className: "unit" }, this.unit), this.csv),
      this.legend, this.plot, el("p", { className: "help" }, spec.help));
    this.plot.addEventListener("pointermove", (event) => shared.onCursor(this.stepAt(event)));
    this.plot.addEventListener("pointerleave", () => shared.onCursor(null));
    this.plot.addEventListener("click", (event) => shared.onPick(this.stepAt(event)));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => shared.onCursor(null));
  }

  /** Takes the series of these runs anew, and draws them. */
  update(runs) {
    const several = runs.length > 1;
    this.several = several;
    this.stacked = Boolean(this.spec.stack) && !several;
    const named = several && this.spec.together ? this.spec.together : this.spec.keys;
    const keys = Object.keys(named).filter((key) => runs.some((run) => run.columns.has(key)));
    this.lines = runs.flatMap((run) => keys.filter((key) => run.columns.has(key)).map((key, i) => {
      const band = this.spec.band?.[key];
      return {
        run, name: named[key], raw: run.columns.get(key), steps: run.columns.get("step").x,
        color: several ? run.color : keys.length > PLAIN_COLORS ? `r${keys.indexOf(key) % RUN_COLORS}` : `c${keys.indexOf(key)}`, dash: several ? DASHES[keys.indexOf(key) % DASHES.length] : "",
        first: i === 0, seldom: Boolean(band),
        band: band && run.columns.has(band[0]) && run.columns.has(band[1]) ? band.map((edge) => run.columns.get(edge)) : null,
      };
    }));
    this.styles = several && keys.length > 1 ? keys.map((key, i) => ({ name: named[key], dash: DASHES[i % DASHES.length] })) : [];
    // What is left of a step's seconds is no value of a run.
    this.csv.href = csvOf(runs, keys.map((key) => (key === "other_s" ? "step_s" : key)));
    this.draw();
  }

  draw() {
    const width = this.node.clientWidth;
    if (!width || !this.lines?.length) return;
    const weight = this.shared.smoothing;
    for (const line of this.lines) line.shown = drawn(line.raw, weight, line.steps, line.seldom);
    if (this.stacked) this.stack();
    this.axes(width);
    this.curves = svg("g");
    for (const line of [...this.lines].reverse()) this.drawLine(line);
    this.cursor = svg("g", { class: "cursor" });
    this.plot.replaceChildren(this.grid, this.curves, this.cursor);
    this.plot.setAttribute("width", width);
    this.drawCursor();
  }

  /** Puts each series on top of those before it. */
  stack() {
    const below = new Map();
    for (const line of this.lines) {
      const { x, y } = line.shown;
      line.base = { x, y: x.map((step) => below.get(step) ?? 0) };
      line.top = { x, y: y.map((value, i) => value + line.base.y[i]) };
      x.forEach((step, i) => below.set(step, line.top.y[i]));
    }
  }

  axes(width) {
    const x = [Infinity, -Infinity];
    let y = this.stacked ? [0, 0] : [Infinity, -Infinity];
    for (const line of this.lines) {
      widen(x, [line.raw.x[0], line.raw.x[line.raw.x.length - 1]]);
      for (const series of this.stacked ? [line.top] : [line.raw, ...(line.band ?? [])]) widen(y, series.y);
    }
    y = y[0] > y[1] ? [0, 1] : y.map((value) => value * this.scale);
    if (y[0] > 0 && (this.spec.percent || y[0] < 0.5 * y[1])) y[0] = 0;
    // Values that differ by roundoff alone are one value.
    if (y[1] - y[0] <= 1e-9 * Math.max(Math.abs(y[0]), Math.abs(y[1]))) {
      y = y[0] === 0 ? [0, 1] : [Math.min(0, 2 * y[0]), Math.max(0, 2 * y[0])];
    }
    const marks = ticks(y[0], y[1], 4);
    const gap = marks.length > 1 ? marks[1] - marks[0] : y[1] - y[0];
    this.y = [Math.floor(y[0] / gap + 1e-9) * gap, Math.ceil(y[1] / gap - 1e-9) * gap];
    this.x = x[0] === x[1] ? [x[0] - 1, x[1] + 1] : x;
    this.width = width;
    this.grid = svg("g", { class: "axes" });
    const { left, right, bottom } = MARGIN;
    for (const value of ticks(this.y[0], this.y[1], 4)) {
      const at = this.py(value / this.scale);
      this.grid.append(
        svg("line", { x1: left, x2: width - right, y1: at, y2: at }),
        svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, short(value)));
    }
    for (const value of ticks(this.x[0], this.x[1], Math.max(2, width / 90), true)) {
      const at = this.px(value);
      const anchor = at > width - right - 14 ? "end" : "middle";
      this.grid.append(svg("text", { x: at, y: HEIGHT - bottom + 16, "text-anchor": anchor }, short(value)));
    }
    this.grid.append(svg("text", { class: "axis-name", x: 2, y: HEIGHT - bottom + 16 }, "step"));
  }

  px(x) {
    return MARGIN.left + ((x - this.x[0]) / (this.x[1] - this.x[0])) * (this.width - MARGIN.left - MARGIN.right);
  }

  py(y) {
    const share = (y * this.scale - this.y[0]) / (this.y[1] - this.y[0]);
    return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  /** A path through a series, broken where it is not a number. */
  path(series) {
    const { x, y } = thin(series, Math.max(100, Math.floor(this.width)));
    let path = "", pen = "M";
    for (let i = 0; i < x.length; i++) {
      if (!Number.isFinite(y[i])) pen = "M";
      else {
        path += `${pen}${this.px(x[i]).toFixed(1)} ${this.py(y[i]).toFixed(1)}`;
        pen = "L";
      }
    }
    return path;
  }

  drawLine(line) {
    const add = (tag, attributes) => this.curves.append(svg(tag, { ...attributes, class: `${line.color} ${attributes.class}` }));
    if (this.stacked) {
      const back = { x: [...line.base.x].reverse(), y: [...line.base.y].reverse() };
      add("path", { class: "area", d: `${this.path(line.top)}${this.path(back).replaceAll("M", "L")}Z` });
      return;
    }
    if (line.band) {
      const [low, high] = line.band.map((edge) => thin(edge, 100));
      low.x.forEach((x, i) => {
        if (i < high.y.length) add("path", { class: "interval", d: this.path({ x: [x, x], y: [low.y[i], high.y[i]] }) });
      });
    }
    if (line.shown !== line.raw) add("path", { class: "line faint", d: this.path(line.raw) });
    add("path", { class: "line", d: this.path(line.shown), "stroke-dasharray": line.dash });
    const { x, y } = line.shown;
    if (x.length < 12) x.forEach((step, i) => Number.isFinite(y[i]) && add("circle", { class: "dot", cx: this.px(step), cy: this.py(y[i]), r: 2.5 }));
    const marks = thin({ x: line.raw.x.filter((_, i) => !Number.isFinite(line.raw.y[i])), y: [] }, 100).x;
    for (const step of marks) {
      const at = `${this.px(step).toFixed(1)} ${MARGIN.top + 5}`;
      add("path", { class: "line nan", d: `M${at}m-4 -4l8 8m0 -8l-8 8` });
    }
  }

  /** Shows the values at the cursor, or the last ones: those that are drawn. */
  drawCursor() {
    if (!this.cursor || !this.lines?.length) return;
    const step = this.shared.cursor;
    const marks = [];
    for (const line of this.lines) {
      const { x, y } = line.shown;
      const i = step === null ? x.length - 1 : nearest(x, step);
      line.value = `${short(y[i] * this.scale)}${this.unit === "%" && Number.isFinite(y[i]) ? " %" : ""}`;
      line.at = x[i];
      const at = this.stacked ? line.top.y[i] : y[i];
      if (step !== null && Number.isFinite(at)) marks.push(svg("circle", { class: `${line.color} dot`, cx: this.px(x[i]), cy: this.py(at), r: 3.5 }));
    }
    if (step !== null && step >= this.x[0] && step <= this.x[1]) {
      const at = this.px(step);
      marks.unshift(svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
    }
    this.cursor.replaceChildren(...marks);
    this.drawLegend();
    const said = this.lines.map((line) => `${this.several ? `${line.run.name} ` : ""}${line.name} ${line.value}`.trim()).join(", ");
    const at = step ?? this.lines[0].at;
    for (const [key, value] of Object.entries({ valuemin: this.x[0], valuemax: this.x[1], valuenow: at, valuetext: `step ${at}: ${said}` })) {
      this.plot.setAttribute(`aria-${key}`, value);
    }
  }

  /** One entry a series; of several runs one a run, with the values of its series in their order. */
  drawLegend() {
    const swatch = (color) => el("i", { className: `swatch ${color}` });
    const entries = [];
    for (const line of this.lines) {
      if (this.several && !line.first) entries[entries.length - 1].append(" · ", el("b", {}, line.value));
      else {
        const name = this.several ? line.run.name : line.name;
        entries.push(el("span", {}, swatch(line.color), name ? el("span", { className: "run-name" }, `${name} `) : null, el("b", {}, line.value)));
      }
    }
    const styles = this.styles.map(({ name, dash }) => el("span", { className: "quiet style" },
      svg("svg", { width: 22, height: 8 }, svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": dash })), name));
    this.legend.replaceChildren(...styles, ...entries);
  }

  /** The step of the longest series that is nearest to a pointer. */
  stepAt(event) {
    const share = (event.offsetX - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    const steps = this.longest();
    return steps[nearest(steps, this.x[0] + share * (this.x[1] - this.x[0]))];
  }

  longest() {
    return this.lines.reduce((a, b) => (b.raw.x.length > a.raw.x.length ? b : a)).raw.x;
  }

  key(event) {
    const steps = this.longest();
    const at = this.shared.cursor === null ? steps.length - 1 : nearest(steps, this.shared.cursor);
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 };
    if (event.key in moves) this.shared.onCursor(steps[Math.min(Math.max(moves[event.key], 0), steps.length - 1)]);
    else if (event.key === "Enter") this.shared.onPick(steps[at]);
    else if (event.key === "Escape") this.shared.onCursor(null);
    else return;
    event.preventDefault();
  }
}
