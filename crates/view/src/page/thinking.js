// Thinking and answer of a text.

/** Splits a completion into thinking and answer. The prompt may have opened the thinking already. */
function split(text) {
  const open = /^\s*<think>/.exec(text);
  const start = open ? open[0].length : 0;
  const end = text.indexOf("</think>", start);
  if (end >= 0) return { thinking: [start, end], answer: [end + "</think>".length, text.length] };
  return open ? { thinking: [start, text.length], answer: null } : { thinking: null, answer: [0, text.length] };
}
