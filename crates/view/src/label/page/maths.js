// Formulas in LaTeX's notation as MathML, which browsers draw. What is not known is shown as it is written.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MAX_FORMULA = 4000; // characters: a longer one is shown as it is written
const MAX_DEPTH = 40;

const LETTERS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ϵ", varepsilon: "ε", zeta: "ζ", eta: "η", theta: "θ", vartheta: "ϑ",
  iota: "ι", kappa: "κ", lambda: "λ", mu: "μ", nu: "ν", xi: "ξ", pi: "π", varpi: "ϖ", rho: "ρ", varrho: "ϱ", sigma: "σ", varsigma: "ς",
  tau: "τ", upsilon: "υ", phi: "ϕ", varphi: "φ", chi: "χ", psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Theta: "Θ", Lambda: "Λ", Xi: "Ξ",
  Pi: "Π", Sigma: "Σ", Upsilon: "Υ", Phi: "Φ", Psi: "Ψ", Omega: "Ω", infty: "∞", partial: "∂", nabla: "∇", ell: "ℓ", hbar: "ℏ", Re: "ℜ",
  Im: "ℑ", aleph: "ℵ", emptyset: "∅", varnothing: "∅", ldots: "…", dots: "…", cdots: "⋯", vdots: "⋮", ddots: "⋱", degree: "°", angle: "∠",
  triangle: "△", square: "□", Box: "□", top: "⊤", bot: "⊥", prime: "′", imath: "ı", jmath: "ȷ",
};
const OPERATORS = {
  times: "×", cdot: "⋅", div: "÷", pm: "±", mp: "∓", ast: "∗", star: "⋆", circ: "∘", bullet: "•", oplus: "⊕", otimes: "⊗", odot: "⊙",
  le: "≤", leq: "≤", leqslant: "⩽", ge: "≥", geq: "≥", geqslant: "⩾", ne: "≠", neq: "≠", approx: "≈", equiv: "≡", cong: "≅", sim: "∼",
  simeq: "≃", propto: "∝", ll: "≪", gg: "≫", in: "∈", notin: "∉", ni: "∋", subset: "⊂", subseteq: "⊆", supset: "⊃", supseteq: "⊇",
  cup: "∪", cap: "∩", setminus: "∖", forall: "∀", exists: "∃", neg: "¬", lnot: "¬", land: "∧", wedge: "∧", lor: "∨", vee: "∨",
  to: "→", rightarrow: "→", leftarrow: "←", gets: "←", leftrightarrow: "↔", Rightarrow: "⇒", Leftarrow: "⇐", Leftrightarrow: "⇔",
  implies: "⟹", iff: "⟺", mapsto: "↦", longrightarrow: "⟶", uparrow: "↑", downarrow: "↓", mid: "∣", nmid: "∤", parallel: "∥", perp: "⊥",
  therefore: "∴", because: "∵", langle: "⟨", rangle: "⟩", lfloor: "⌊", rfloor: "⌋", lceil: "⌈", rceil: "⌉", lbrace: "{", rbrace: "}",
  vert: "|", Vert: "‖", lvert: "|", rvert: "|", backslash: "\\", colon: ":", models: "⊨", vdash: "⊢", "{": "{", "}": "}", "|": "‖",
};
const BIG = { sum: "∑", prod: "∏", coprod: "∐", int: "∫", iint: "∬", iiint: "∭", oint: "∮", bigcup: "⋃", bigcap: "⋂", bigoplus: "⨁", bigotimes: "⨂", bigvee: "⋁", bigwedge: "⋀" };
const NAMED = ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg", "exp", "lim",
  "limsup", "liminf", "max", "min", "sup", "inf", "det", "dim", "ker", "gcd", "lcm", "deg", "arg", "Pr", "hom", "mod"];
const BELOW = ["lim", "limsup", "liminf", "max", "min", "sup", "inf", "det", "gcd", "Pr"]; // their index stands below them
const SPACES = { ",": "0.17em", ":": "0.22em", ">": "0.22em", ";": "0.28em", " ": "0.33em", "!": "0", quad: "1em", qquad: "2em", "~": "0.33em" };
const ACCENTS = { hat: "^", widehat: "^", bar: "¯", overline: "¯", vec: "→", overrightarrow: "→", dot: "˙", ddot: "¨", tilde: "~", widetilde: "~", overbrace: "⏞" };
const BELOW_ACCENTS = { underline: "_", underbrace: "⏟" };
const ALPHABETS = { mathbb: "double-struck", mathbf: "bold", boldsymbol: "bold", bm: "bold", mathcal: "script", mathscr: "script", mathfrak: "fraktur", mathsf: "sans-serif", mathtt: "monospace" };
const TEXTS = ["text", "textbf", "textit", "textrm", "textsf", "texttt", "mathrm", "mathit", "operatorname", "mbox", "hbox"];
const IGNORED = ["displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "nonumber", "notag", "hline", "middle"];
const FENCES = { matrix: ["", ""], pmatrix: ["(", ")"], bmatrix: ["[", "]"], Bmatrix: ["{", "}"], vmatrix: ["|", "|"], Vmatrix: ["‖", "‖"], cases: ["{", ""], smallmatrix: ["", ""] };
const DOUBLE_STRUCK = { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" };

function math(tag, attributes = {}, ...children) {
  const node = document.createElementNS(MATHML, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A formula; one that can't be read is shown as it is written. */
function formula(source, isDisplay) {
  const written = () => el(isDisplay ? "pre" : "code", { className: "unread" }, source);
  if (source.length > MAX_FORMULA) return written();
  try {
    const reader = new Formula(source);
    const body = reader.row(() => false);
    return math("math", isDisplay ? { display: "block" } : {}, math("semantics", {}, body, math("annotation", { encoding: "application/x-tex" }, source)));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return written();
  }
}

class Formula {
  constructor(source) {
    this.tokens = source.match(/\\[a-zA-Z]+\*?|\\[\s\S]|\d+(?:[.,]\d+)*|\s+|[\s\S]/gu) ?? [];
    this.at = 0;
    this.depth = 0;
  }

  peek() {
    while (/^\s+$/.test(this.tokens[this.at] ?? "")) this.at++;
    return this.tokens[this.at];
  }

  next() {
    const token = this.peek();
    this.at++;
    return token;
  }

  expect(token) {
    if (this.next() !== token) throw new SyntaxError(`no ${token}`);
  }

  /** What stands up to a token at which `ends`; that token stays. */
  row(ends) {
    if (++this.depth > MAX_DEPTH) throw new SyntaxError("too deep");
    const parts = [];
    while (this.peek() !== undefined && !ends(this.peek())) {
      const part = this.scripted();
      if (part) parts.push(part);
    }
    this.depth--;
    return parts.length === 1 ? parts[0] : math("mrow", {}, ...parts);
  }

  /** An atom with its index and exponent. */
  scripted() {
    const starts = this.peek();
    const base = starts === "^" || starts === "_" ? math("mrow") : this.atom();
    if (base === null) return null;
    let below = null, above = null;
    for (;;) {
      const token = this.peek();
      if (token === "\\limits" || token === "\\nolimits") this.next();
      else if (token === "_" && !below) { this.next(); below = this.argument(); }
      else if (token === "^" && !above) { this.next(); above = this.argument(); }
      else if (token === "'" && !above) {
        let primes = "";
        while (this.peek() === "'") { this.next(); primes += "′"; }
        above = math("mo", {}, primes);
        if (this.peek() === "^") { this.next(); above = math("mrow", {}, above, this.argument()); }
      } else break;
    }
    const isOver = base.isOver;
    if (below && above) return math(isOver ? "munderover" : "msubsup", {}, base, below, above);
    if (below) return math(isOver ? "munder" : "msub", {}, base, below);
    return above ? math(isOver ? "mover" : "msup", {}, base, above) : base;
  }

  /** A group in braces, or one atom. */
  argument() {
    if (this.peek() !== "{") {
      if (this.peek() === undefined) throw new SyntaxError("an argument is missing");
      const part = this.atom(true);
      return part ?? math("mrow");
    }
    this.next();
    const group = this.row((token) => token === "}");
    this.expect("}");
    return group;
  }

  /** The text of a group in braces, as it is written. */
  raw() {
    if (this.peek() !== "{") return this.next() ?? "";
    this.next();
    let text = "", open = 1;
    for (; this.at < this.tokens.length; this.at++) {
      const token = this.tokens[this.at];
      open += (token === "{") - (token === "}");
      if (!open) break;
      text += token;
    }
    this.expect("}");
    return text;
  }

  atom(isSingle = false) {
    let token = this.next();
    if (isSingle && /^\d+$/.test(token) && token.length > 1) {
      // An argument without braces is one digit.
      this.tokens[--this.at] = token.slice(1);
      token = token[0];
    }
    if (token === "{") {
      const group = this.row((end) => end === "}");
      this.expect("}");
      return group;
    }
    if (token === "}" || token === "&") throw new SyntaxError(`a ${token} too many`);
    if (token[0] === "\\" && token.length > 1) return this.command(token.slice(1));
    if (/^\d/.test(token)) return math("mn", {}, token);
    if (token === "~") return math("mspace", { width: SPACES["~"] });
    if (token === "$") throw new SyntaxError("a $ inside");
    if (/^\p{L}/u.test(token)) return math("mi", {}, token);
    if ("()[]|".includes(token)) return math("mo", { stretchy: "false" }, token);
    return math("mo", {}, { "-": "−", "*": "∗" }[token] ?? token);
  }

  command(name) {
    if (Object.hasOwn(LETTERS, name)) return math("mi", {}, LETTERS[name]);
    if (Object.hasOwn(OPERATORS, name)) return math("mo", { stretchy: "false" }, OPERATORS[name]);
    if (Object.hasOwn(SPACES, name)) return math("mspace", { width: SPACES[name] });
    if (Object.hasOwn(BIG, name)) {
      const sign = math("mo", { largeop: "true", movablelimits: "true" }, BIG[name]);
      sign.isOver = !name.endsWith("int");
      return sign;
    }
    if (NAMED.includes(name)) {
      const word = math("mi", { mathvariant: "normal" }, name.replace(/^lim(?=sup|inf)/, "lim "));
      word.isOver = BELOW.includes(name);
      return word;
    }
    if (IGNORED.includes(name)) return null;
    if (["frac", "dfrac", "tfrac", "cfrac"].includes(name)) return math("mfrac", {}, this.argument(), this.argument());
    if (["binom", "dbinom", "tbinom"].includes(name)) {
      return math("mrow", {}, math("mo", {}, "("), math("mfrac", { linethickness: "0" }, this.argument(), this.argument()), math("mo", {}, ")"));
    }
    if (name === "sqrt") {
      if (this.peek() !== "[") return math("msqrt", {}, this.argument());
      this.next();
      const degree = this.row((token) => token === "]");
      this.expect("]");
      return math("mroot", {}, this.argument(), degree);
    }
    if (Object.hasOwn(ACCENTS, name)) {
      const over = math("mover", { accent: "true" }, this.argument(), math("mo", { stretchy: String(/^over|^wide/.test(name)) }, ACCENTS[name]));
      over.isOver = name === "overbrace";
      return over;
    }
    if (Object.hasOwn(BELOW_ACCENTS, name)) {
      const under = math("munder", {}, this.argument(), math("mo", { stretchy: "true" }, BELOW_ACCENTS[name]));
      under.isOver = name === "underbrace";
      return under;
    }
    if (name === "overset" || name === "stackrel") {
      const above = this.argument();
      return math("mover", {}, this.argument(), above);
    }
    if (name === "underset") {
      const below = this.argument();
      return math("munder", {}, this.argument(), below);
    }
    if (Object.hasOwn(ALPHABETS, name)) return this.letters(ALPHABETS[name]);
    if (TEXTS.includes(name.replace(/\*$/, ""))) return math("mtext", {}, this.raw().replace(/\\([%$&#_{} ])/g, "$1"));
    if (name === "boxed" || name === "fbox") return math("mrow", { class: "boxed" }, this.argument());
    if (name === "pmod") return math("mrow", {}, math("mtext", {}, "\u00a0(mod "), this.argument(), math("mo", { stretchy: "false" }, ")"));
    if (name === "bmod") return math("mo", {}, "mod");
    if (name === "not") {
      const struck = this.argument();
      struck.append("\u0338");
      return struck;
    }
    if (name === "left") return this.fenced();
    if (name === "begin") return this.environment();
    if (name === "color" || name === "textcolor") {
      this.raw();
      return name === "color" ? null : this.argument();
    }
    if (name === "tag") return math("mtext", {}, `\u2003(${this.raw()})`);
    if (name === "label") {
      this.raw();
      return null;
    }
    if (name === "\\") return math("mspace", { linebreak: "newline" });
    if (name === "end" || name === "right") throw new SyntaxError(`\\${name} without its beginning`);
    if (/^[%$&#_]$/.test(name)) return math("mo", {}, name);
    return math("mtext", { class: "unread" }, `\\${name}`);
  }

  letters(variant) {
    const text = this.raw();
    if (variant === "double-struck" && /^[A-Z]$/.test(text)) {
      return math("mi", {}, DOUBLE_STRUCK[text] ?? String.fromCodePoint(0x1d538 + text.charCodeAt(0) - 65));
    }
    if (variant === "double-struck" || !/^[\w\s]+$/.test(text)) {
      const inner = new Formula(text);
      inner.depth = this.depth;
      return math("mrow", { class: variant }, inner.row(() => false));
    }
    return math("mi", { class: variant, mathvariant: "normal" }, text);
  }

  /** \left( … \right) */
  fenced() {
    const sign = () => {
      const token = this.next();
      if (token === undefined) throw new SyntaxError("a bracket is missing");
      const name = token.replace(/^\\/, "");
      return math("mo", { fence: "true", stretchy: "true" }, token === "." ? "" : token[0] === "\\" ? OPERATORS[name] ?? name : token);
    };
    const open = sign();
    const inside = this.row((token) => token === "\\right");
    this.expect("\\right");
    return math("mrow", {}, open, inside, sign());
  }

  /** \begin{…} … \end{…}: rows of cells. */
  environment() {
    const name = this.raw().replace(/\*$/, "");
    if (name === "array" || name === "alignedat") this.raw();
    const rows = [[]];
    for (;;) {
      rows.at(-1).push(this.row((token) => token === "&" || token === "\\\\" || token === "\\end"));
      const token = this.next();
      if (token === "\\\\") {
        if (this.tokens[this.at] === "[") while (this.at < this.tokens.length && this.next() !== "]");
        rows.push([]);
      } else if (token === "\\end") break;
      else if (token !== "&") throw new SyntaxError("no \\end");
    }
    this.raw();
    const isEmpty = (cells) => cells.length === 1 && !cells[0].childNodes.length && cells[0].localName === "mrow";
    const aligned = /^(align|split|eqn|gather|multline)/.test(name) ? "aligned" : name === "cases" ? "cases" : "matrix";
    const table = math("mtable", { class: aligned, displaystyle: String(aligned === "aligned") }, ...rows.filter((cells) => !isEmpty(cells)).map((cells) =>
      math("mtr", {}, ...cells.map((cell) => math("mtd", {}, cell)))));
    const [open, close] = FENCES[name] ?? ["", ""];
    const fence = (sign) => math("mo", { fence: "true", stretchy: "true" }, sign);
    return open || close ? math("mrow", {}, ...(open ? [fence(open)] : []), table, ...(close ? [fence(close)] : [])) : table;
  }
}
