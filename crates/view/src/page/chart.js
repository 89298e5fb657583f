// A chart of one or more series over steps, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 168;
const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };

/** Makes an element: properties are set, never parsed, and text is text. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A number in few characters. */
function short(value) {
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

/** An exponential moving average without the bias of its start. */
function smooth(points, weight) {
  let sum = 0, norm = 0;
  return points.map(([x, y]) => {
    sum = weight * sum + (1 - weight) * y;
    norm = weight * norm + (1 - weight);
    return [x, sum / norm];
  });
}

/** At most two points a pixel: the least and the greatest of those that fall on it. */
function thin(points, columns) {
  if (points.length <= 2 * columns) return points;
  const kept = [];
  const size = points.length / columns;
  for (let column = 0; column < columns; column++) {
    const part = points.slice(Math.floor(column * size), Math.floor((column + 1) * size));
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

/** The index of the point nearest to step `x`; points are in the order of steps. */
function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - points[low - 1][0] <= points[low][0] - x ? low - 1 : low;
}

class Chart {
  /** `shared` has smoothing, the cursor (a step or null), onCursor(step) and onPick(step). */
  constructor(spec, shared) {
    this.spec = spec;
    this.shared = shared;
    this.scale = spec.percent ? 100 : 1;
    this.unit = spec.percent ? "%" : spec.unit ?? "";
    this.legend = el("div", { className: "legend" });
    this.plot = svg("svg", { height: HEIGHT, tabindex: 0, role: "slider", "aria-label": spec.title });
    this.node = el("figure", { className: "chart" },
      el("figcaption", {}, el("span", { className: "name" }, spec.title), " ", el("span", { className: "unit" }, this.unit)),
      this.legend, this.plot, el("p", { className: "help" }, spec.help));
    this.plot.addEventListener("pointermove", (event) => shared.onCursor(this.stepAt(event)));
    this.plot.addEventListener("pointerleave", () => shared.onCursor(null));
    this.plot.addEventListener("click", (event) => shared.onPick(this.stepAt(event)));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => shared.onCursor(null));
  }

  /** Takes the series anew and draws them: `columns` has the points [step, value] of each key. */
  update(columns) {
    const keys = Object.keys(this.spec.keys).filter((key) => columns.has(key));
    const scaled = (key) => {
      const points = columns.get(key) ?? [];
      return this.scale === 1 ? points : points.map(([x, y]) => [x, y * this.scale]);
    };
    this.series = keys.map((key, i) => {
      const band = this.spec.band?.[key];
      return {
        name: this.spec.keys[key], color: `c${i}`, raw: scaled(key),
        band: band && columns.has(band[0]) ? band.map(scaled) : null,
      };
    });
    this.draw();
  }

  draw() {
    const width = this.node.clientWidth;
    if (!width || !this.series) return;
    if (this.spec.stack) this.stack();
    else {
      const weight = this.shared.smoothing;
      for (const line of this.series) line.shown = weight ? smooth(line.raw, weight) : line.raw;
    }
    this.axes(width);
    this.lines = svg("g");
    for (const line of [...this.series].reverse()) this.drawSeries(line);
    this.cursor = svg("g", { class: "cursor" });
    this.plot.replaceChildren(this.grid, this.lines, this.cursor);
    this.plot.setAttribute("width", width);
    this.drawCursor();
  }

  /** Puts each series on top of those before it. */
  stack() {
    const below = new Map();
    const weight = this.shared.smoothing;
    for (const line of this.series) {
      const values = weight ? smooth(line.raw, weight) : line.raw;
      line.base = values.map(([x]) => [x, below.get(x) ?? 0]);
      line.shown = values.map(([x, y]) => [x, y + (below.get(x) ?? 0)]);
      for (const [x, y] of line.shown) below.set(x, y);
    }
  }

  axes(width) {
    const x = [Infinity, -Infinity];
    let y = this.spec.stack ? [0, 0] : [Infinity, -Infinity];
    for (const line of this.series) {
      for (const points of this.spec.stack ? [line.shown] : [line.raw, ...(line.band ?? [])]) {
        for (const [px, py] of points) {
          x[0] = Math.min(x[0], px);
          x[1] = Math.max(x[1], px);
          y[0] = Math.min(y[0], py);
          y[1] = Math.max(y[1], py);
        }
      }
    }
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
    const { left, right, top, bottom } = MARGIN;
    for (const value of ticks(this.y[0], this.y[1], 4)) {
      const at = this.py(value);
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
    return HEIGHT - MARGIN.bottom - ((y - this.y[0]) / (this.y[1] - this.y[0])) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  path(points) {
    const columns = Math.max(100, Math.floor(this.width));
    return thin(points, columns).map(([x, y], i) => `${i ? "L" : "M"}${this.px(x).toFixed(1)} ${this.py(y).toFixed(1)}`).join("");
  }

  drawSeries(line) {
    const add = (tag, attributes) => this.lines.append(svg(tag, { ...attributes, class: `${line.color} ${attributes.class}` }));
    if (line.base) {
      const back = [...line.base].reverse();
      add("path", { class: "area", d: `${this.path(line.shown)}${this.path(back).replace("M", "L")}Z` });
      return;
    }
    if (line.band) {
      const [low, high] = line.band;
      low.forEach(([x, y], i) => {
        if (i < high.length) add("path", { class: "interval", d: this.path([[x, y], [x, high[i][1]]]) });
      });
    }
    if (this.shared.smoothing) add("path", { class: "line faint", d: this.path(line.raw) });
    add("path", { class: "line", d: this.path(line.shown) });
    if (line.shown.length < 12) {
      for (const [x, y] of line.shown) add("circle", { class: "dot", cx: this.px(x), cy: this.py(y), r: 2.5 });
    }
  }

  /** Shows the values at the cursor, or the last ones. */
  drawCursor() {
    if (!this.cursor) return;
    const step = this.shared.cursor;
    const marks = [], words = [];
    for (const line of this.series) {
      const i = step === null ? line.shown.length - 1 : nearest(line.shown, step);
      const [x, y] = line.shown[i];
      const value = line.raw[i][1];
      if (step !== null) marks.push(svg("circle", { class: `${line.color} dot`, cx: this.px(x), cy: this.py(y), r: 3.5 }));
      words.push({ color: line.color, name: line.name, value: `${short(value)}${this.unit === "%" ? " %" : ""}`, x });
    }
    if (step !== null && step >= this.x[0] && step <= this.x[1]) {
      const at = this.px(step);
      marks.unshift(svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
    }
    this.cursor.replaceChildren(...marks);
    this.legend.replaceChildren(...words.map((word) => el("span", {},
      el("i", { className: `swatch ${word.color}` }), word.name ? `${word.name} ` : "", el("b", {}, word.value))));
    const at = step ?? words[0].x;
    const said = words.map((word) => `${word.name} ${word.value}`.trim()).join(", ");
    for (const [key, value] of Object.entries({ valuemin: this.x[0], valuemax: this.x[1], valuenow: at, valuetext: `step ${at}: ${said}` })) {
      this.plot.setAttribute(`aria-${key}`, value);
    }
  }

  /** The step of the longest series that is nearest to a pointer. */
  stepAt(event) {
    const points = this.longest();
    const share = (event.offsetX - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return points[nearest(points, this.x[0] + share * (this.x[1] - this.x[0]))][0];
  }

  longest() {
    return this.series.reduce((a, b) => (b.raw.length > a.raw.length ? b : a)).raw;
  }

  key(event) {
    const points = this.longest();
    const at = this.shared.cursor === null ? points.length - 1 : nearest(points, this.shared.cursor);
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: points.length - 1 };
    if (event.key in moves) this.shared.onCursor(points[Math.min(Math.max(moves[event.key], 0), points.length - 1)][0]);
    else if (event.key === "Enter") this.shared.onPick(points[at][0]);
    else if (event.key === "Escape") this.shared.onCursor(null);
    else return;
    event.preventDefault();
  }
}
