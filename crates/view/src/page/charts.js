// All charts: the four that matter first, the others folded by what they are about.

const MAX_FIRST = 4;

/** The address of the table of these runs' values; of all of them without keys. */
function csvOf(runs, keys = []) {
  const part = (name) => (value) => `${name}=${encodeURIComponent(value)}`;
  return `metrics.csv?${[...runs.map((run) => run.name).map(part("run")), ...keys.map(part("key"))].join("&")}`;
}

class Charts {
  constructor(shared) {
    this.shared = shared;
    this.first = document.getElementById("charts");
    this.groups = document.getElementById("groups");
    this.charts = [];
    this.open = new Set(); // the groups that are unfolded
    this.runs = [];
    new ResizeObserver(() => this.redraw()).observe(this.first);
  }

  /** Draws the series of these runs. */
  update(runs) {
    this.runs = runs;
    const specs = chartsFor(new Set(runs.flatMap((run) => [...run.columns.keys()])), runs.length > 1);
    if (specs.length !== this.charts.length || specs.some((spec, i) => spec.title !== this.charts[i].spec.title)) this.build(specs);
    this.visible().forEach((chart) => chart.update(runs));
  }

  build(specs) {
    this.charts = specs.map((spec) => new Chart(spec, this.shared));
    this.first.replaceChildren(...this.charts.slice(0, MAX_FIRST).map((chart) => chart.node));
    const rest = this.charts.slice(MAX_FIRST);
    const groups = GROUPS.map((name) => [name, rest.filter((chart) => chart.spec.group === name)]);
    this.groups.replaceChildren(...groups.filter(([, charts]) => charts.length).map(([name, charts]) => this.group(name, charts)));
  }

  group(name, charts) {
    const titles = charts.map((chart) => chart.spec.title).join(", ");
    const node = el("details", { className: "group", open: this.open.has(name) },
      el("summary", {}, el("b", {}, name), " ", el("span", { className: "quiet" }, titles)),
      el("div", { className: "grid" }, ...charts.map((chart) => chart.node)));
    node.addEventListener("toggle", () => {
      if (node.open) this.open.add(name);
      else this.open.delete(name);
      if (node.open) charts.forEach((chart) => chart.update(this.runs));
    });
    return node;
  }

  /** The charts that are not folded away. */
  visible() {
    return this.charts.filter((chart, i) => i < MAX_FIRST || this.open.has(chart.spec.group));
  }

  redraw() {
    this.visible().forEach((chart) => chart.draw());
  }

  drawCursor() {
    this.visible().forEach((chart) => chart.drawCursor());
  }
}
