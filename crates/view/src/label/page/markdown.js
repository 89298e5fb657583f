// Markdown as elements: headings, lists, quotes, tables, code, emphasis, and formulas. Text stays text: HTML in it is shown as it
// is written, links are named with their address and lead nowhere, pictures are not loaded.

const MAX_NESTED = 12; // lists and quotes inside of each other; what is deeper is plain text

/** The elements of a text. */
function markdown(text) {
  return blocks(text.replaceAll("\r\n", "\n").split("\n"), 0);
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}([-*_])\s*(?:\1\s*){2,}$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)/;
const QUOTE = /^ {0,3}> ?/;
const DISPLAY = [["$$", "$$"], ["\\[", "\\]"]];
const DIVIDER = /^\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?$/; // of a line without blanks around it
const ENVIRONMENT = /^\s*\\begin\{(align|equation|gather|multline|eqnarray)\*?\}/;

const isBlank = (line) => line.trim() === "";
const indent = (line) => line.length - line.trimStart().length;

/** Whether a line begins a block that ends a paragraph. */
function begins(line) {
  const item = ITEM.exec(line);
  const display = DISPLAY.some(([open]) => line.trimStart().startsWith(open));
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || display || ENVIRONMENT.test(line)
    || (item !== null && item[0].length < line.length && !/^\d{2,}/.test(item[2]));
}

/** The blocks of lines. */
function blocks(lines, depth) {
  const nodes = [];
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const fence = FENCE.exec(line), heading = HEADING.exec(line), item = ITEM.exec(line);
    if (isBlank(line)) at++;
    else if (fence) at = code(lines, at, fence, nodes);
    else if (heading) {
      nodes.push(el(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2].trim().replace(/ #+$/, ""))));
      at++;
    } else if (RULE.test(line)) {
      nodes.push(el("hr"));
      at++;
    } else if (DISPLAY.some(([open]) => line.trimStart().startsWith(open)) || ENVIRONMENT.test(line)) at = display(lines, at, nodes);
    else if (QUOTE.test(line) && depth < MAX_NESTED) {
      const end = until(lines, at, (next) => !QUOTE.test(next));
      nodes.push(el("blockquote", {}, ...blocks(lines.slice(at, end).map((next) => next.replace(QUOTE, "")), depth + 1)));
      at = end;
    } else if (item && depth < MAX_NESTED) at = list(lines, at, item, depth, nodes);
    else if (line.includes("|") && DIVIDER.test((lines[at + 1] ?? "").trim())) at = table(lines, at, nodes);
    else {
      const end = until(lines, at + 1, (next) => isBlank(next) || begins(next));
      nodes.push(el("p", {}, ...inline(lines.slice(at, end).map((next) => next.trimStart()).join("\n"))));
      at = end;
    }
  }
  return nodes;
}

function until(lines, from, ends) {
  let end = from;
  while (end < lines.length && !ends(lines[end])) end++;
  return end;
}

function code(lines, at, [, mark, language], nodes) {
  const closes = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
  const end = until(lines, at + 1, (line) => closes.test(line));
  nodes.push(el("pre", { className: "code", title: language.trim(), tabIndex: 0 }, el("code", {}, lines.slice(at + 1, end).join("\n"))));
  return end + 1;
}

/** A formula on lines of its own; a beginning without an end is text. */
function display(lines, at, nodes) {
  const first = lines[at].trimStart();
  const [open, close] = DISPLAY.find(([open]) => first.startsWith(open)) ?? ["", `\\end{${/\{(.*?)\}/.exec(first)[1]}}`];
  let source = first.slice(open.length), end = at;
  while (!source.includes(close) && end + 1 < lines.length && !(open && isBlank(lines[end + 1]))) source += `\n${lines[++end]}`;
  const stop = source.indexOf(close);
  if (stop < 0) {
    nodes.push(el("p", {}, ...inline(lines.slice(at, end + 1).join("\n"))));
    return end + 1;
  }
  const keep = open ? 0 : close.length;
  nodes.push(formula(source.slice(0, stop + keep).trim(), true));
  const rest = source.slice(stop + close.length).trim();
  if (rest) nodes.push(el("p", {}, ...inline(rest)));
  return end + 1;
}

function list(lines, at, first, depth, nodes) {
  const ordered = /\d/.test(first[2]);
  const kind = ordered ? first[2].at(-1) : first[2];
  const node = ordered ? el("ol", { start: parseInt(first[2], 10) }) : el("ul");
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || (ordered ? item[2].at(-1) : item[2]) !== kind || RULE.test(lines[at])) break;
    const width = item[0].length + (item[3] ? 0 : 1);
    const inside = [lines[at].slice(item[0].length)];
    for (at++; at < lines.length; at++) {
      const line = lines[at];
      const deeper = indent(line) >= Math.min(width, 2 + indent(lines[at - 1]) + 4) || indent(line) >= width;
      if (isBlank(line)) {
        const next = lines[until(lines, at, (later) => !isBlank(later))];
        if (next === undefined || indent(next) < 2) {
          at = until(lines, at, (later) => !isBlank(later));
          break;
        }
        inside.push("");
      } else if (deeper || (indent(line) >= 2 && ITEM.test(line.trimStart()))) inside.push(line.slice(Math.min(indent(line), width)));
      else if (begins(line) || isBlank(lines[at - 1])) break;
      else inside.push(line.trimStart());
    }
    const content = blocks(inside, depth + 1);
    // An item of one paragraph is that, without the space around it.
    const [only] = content;
    node.append(el("li", {}, ...(only?.tagName === "P" ? [...only.childNodes, ...content.slice(1)] : content)));
  }
  nodes.push(node);
  return at;
}

function table(lines, at, nodes) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
  const row = (tag, line) => el("tr", {}, ...cells(line).map((cell) => el(tag, {}, ...inline(cell))));
  const end = until(lines, at + 2, (line) => isBlank(line) || !line.includes("|"));
  nodes.push(el("div", { className: "wide" }, el("table", {},
    el("thead", {}, row("th", lines[at])), el("tbody", {}, ...lines.slice(at + 2, end).map((line) => row("td", line))))));
  return end;
}

// What may stand in a line, the first that matches.
const INLINE = [
  [/^\\\(([\s\S]*?)\\\)/, ([, source]) => formula(source.trim(), false)],
  [/^\\\[([\s\S]*?)\\\]/, ([, source]) => formula(source.trim(), true)],
  [/^\$\$([\s\S]+?)\$\$/, ([, source]) => formula(source.trim(), true)],
  // As pandoc does: no blank inside of the dollars, no digit after them.
  [/^\$(?=\S)((?:\\.|[^$\\])*?[^\s\\$]|(?:\\.|[^$\\])*?\\.)\$(?!\d)/, ([, source]) => formula(source, false)],
  [/^(`+)(?!`)([\s\S]*?[^`])\1(?!`)/, ([, , source]) => el("code", {}, source.replace(/^ (.*) $/s, "$1"))],
  [/^\\([!-/:-@[-`{-~])/, ([, sign]) => sign],
  [/^\*\*\*(?=\S)([\s\S]*?\S)\*\*\*/, ([, text]) => el("strong", {}, el("em", {}, ...inline(text)))],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/, ([, text]) => el("strong", {}, ...inline(text))],
  [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, ([, text]) => el("em", {}, ...inline(text))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, ([, text]) => el("s", {}, ...inline(text))],
  [/^!\[([^\]]*)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)/, ([, text, address]) => el("span", { className: "link" }, `[picture: ${text}] (${address})`)],
  [/^\[([^\]]+)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)/, ([, text, address]) => el("span", { className: "link" }, ...inline(text), el("span", { className: "quiet" }, ` (${address})`))],
  [/^(?: {2,}|\\)\n/, () => el("br")],
];
// Underscores make emphasis at the edges of words alone.
const UNDERSCORES = [
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, ([, text]) => el("strong", {}, ...inline(text))],
  [/^_(?=[^\s_])([\s\S]*?[^\s_])_(?!\w)/, ([, text]) => el("em", {}, ...inline(text))],
];
const MAX_SPAN = 5000; // characters that an inline mark is looked for

/** The parts of a line or paragraph. */
function inline(text) {
  const parts = [];
  let plain = "";
  for (let at = 0; at < text.length;) {
    const sign = text[at];
    if (!"\\$`*~![ _".includes(sign)) {
      plain += sign;
      at++;
      continue;
    }
    const rest = text.slice(at, at + MAX_SPAN);
    const kinds = sign === "_" && !/\w/.test(text[at - 1] ?? "") ? UNDERSCORES : sign === "_" ? [] : INLINE;
    let found = null;
    for (const [pattern, make] of kinds) {
      const match = pattern.exec(rest);
      if (match) {
        found = [make(match), match[0].length];
        break;
      }
    }
    if (found) {
      if (plain) parts.push(plain);
      plain = "";
      parts.push(found[0]);
      at += found[1];
    } else {
      // A run of marks that mark nothing is passed at once.
      const start = at;
      do at++; while ("*`~_".includes(sign) && text[at] === sign);
      plain += text.slice(start, at);
    }
  }
  if (plain) parts.push(plain);
  return parts;
}
