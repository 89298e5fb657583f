// Recipes: their steps, and where a row comes from.

class Recipes {
  /** `onOpen` is called with the name of a run that is to be shown. */
  constructor(onOpen) {
    this.all = [];
    this.chosen = null;
    const by = (id) => document.getElementById(id);
    this.nodes = { section: by("recipe"), select: by("which-recipe"), which: by("which"), file: by("recipe-file"), form: by("trace"), row: by("row"), found: by("origins"), said: by("origins-said") };
    this.steps = new Steps(by("steps"), (step) => onOpen(step.run));
    this.nodes.select.addEventListener("change", () => {
      this.chosen = this.nodes.select.value;
      this.draw();
    });
    this.nodes.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.trace(this.nodes.row.value);
    });
  }

  /** The one that is shown. */
  get current() {
    return this.all.find((recipe) => recipe.name === this.chosen) ?? this.all[0] ?? null;
  }

  /** The run to look at first: of the step that is being made, or of the last that has one. */
  firstRun() {
    const steps = this.current?.steps.filter((step) => step.run !== null) ?? [];
    return (steps.find((step) => step.state === "running") ?? steps.at(-1))?.run ?? null;
  }

  isOver() {
    return this.all.every((recipe) => !recipe.running);
  }

  async update() {
    this.all = await ask("api/recipes");
    this.draw();
    const asked = new URLSearchParams(location.hash.slice(1)).get("row");
    if (asked && this.asked === undefined) this.trace(asked);
  }

  draw() {
    const { section, select, which, file } = this.nodes;
    const recipe = this.current;
    section.hidden = recipe === null;
    if (!recipe) return;
    const names = this.all.map((one) => one.name);
    which.hidden = names.length < 2;
    if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
      select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    }
    select.value = recipe.name;
    file.textContent = recipe.file;
    this.steps.update(recipe.steps);
  }

  /** How far it is, in a word. */
  state() {
    const { running, steps } = this.current;
    const has = (state) => steps.some((step) => step.state === state);
    if (running) return "training";
    if (steps.length && steps.every((step) => step.state === "done")) return "finished";
    return ["failed", "unreadable", "waiting"].find(has) ?? (steps.some((step) => step.state) ? "stopped" : "waiting");
  }

  /** The share of its steps that are made. */
  made() {
    const { steps } = this.current;
    return steps.filter((step) => step.state === "done").length / Math.max(1, steps.length);
  }

  progress() {
    const { steps } = this.current;
    const made = steps.filter((step) => step.state === "done").length;
    const sum = (key) => steps.reduce((all, step) => all + (step[key] ?? 0), 0);
    const begun = steps.filter((step) => step.seconds > 0);
    // What is not known of one step is not known of all.
    const whole = (key) => (begun.length && begun.every((step) => Number.isFinite(step[key])) ? sum(key) : null);
    const cost = { seconds: sum("seconds"), tokens_drawn: sum("tokens_drawn"), tokens_trained: sum("tokens_trained"), flops: sum("flops"), energy_wh: whole("energy_wh"), money: whole("money") };
    return [`${made} of ${steps.length} steps made`, costWords(cost)].filter(Boolean).join(" · ");
  }

  words() {
    const { running, steps } = this.current;
    const failed = steps.find((step) => step.state === "failed");
    if (failed) return `The step ${failed.name} failed; once the cause is mended, the same command goes on.`;
    const waiting = steps.find((step) => step.state === "waiting");
    if (waiting) return `The step ${waiting.name} waits for people.`;
    const open = steps.find((step) => ["interrupted", "stopped"].includes(step.state));
    return open && !running ? `The step ${open.name} is not finished; the same command goes on from there.` : "";
  }

  /** A button that shows where the row `id` comes from; none outside of a recipe. */
  traceLink(id) {
    if (!this.current) return null;
    const button = el("button", { type: "button", className: "link", title: "Where this row comes from" }, "lineage");
    button.addEventListener("click", (event) => {
      event.preventDefault();
      this.nodes.row.value = id;
      this.trace(id);
      this.nodes.form.scrollIntoView({ behavior: "smooth" });
    });
    return button;
  }

  /** Shows where the row `id` comes from. */
  async trace(id) {
    if (!id || !this.current) return;
    this.asked = id;
    this.nodes.row.value = id;
    const place = new URLSearchParams(location.hash.slice(1));
    place.set("row", id);
    history.replaceState(null, "", `#${place}`);
    this.nodes.said.textContent = "Looking for it in all files of the recipe …";
    this.nodes.found.replaceChildren();
    try {
      const found = await ask(`api/trace?recipe=${encodeURIComponent(this.current.name)}&id=${encodeURIComponent(id)}`);
      if (this.asked !== id) return;
      this.nodes.said.textContent = found.length ? "From the last file that has it, back to its source:" : "No file of the recipe has a row with this id.";
      this.nodes.found.replaceChildren(...found.map((origin) => this.origin(origin)));
    } catch (error) {
      this.nodes.said.textContent = String(error.message);
    }
  }

  origin({ step, kind, path, number, origin, models, source }) {
    const facts = [];
    if (models?.length) facts.push(["written by", models.join(" ← ")]);
    if (source) facts.push(["source", source]);
    const isObject = origin && typeof origin === "object" && !Array.isArray(origin);
    const entries = isObject ? Object.entries(origin) : origin === null || origin === undefined ? [] : [["origin", origin]];
    for (const [key, value] of entries) facts.push([key, typeof value === "string" ? value : JSON.stringify(value)]);
    const who = step ? [this.steps.link(step), el("span", { className: "quiet" }, ` ${kind}`)] : [el("b", {}, "given")];
    return el("li", {}, el("div", {}, ...who, el("span", { className: "quiet" }, ` row ${number} of `), el("code", {}, path)),
      facts.length ? el("table", {}, el("tbody", {}, ...facts.map(([key, text]) => el("tr", {}, el("th", {}, key), el("td", {}, text))))) : null);
  }
}
