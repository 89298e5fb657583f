'use strict';

const $ = id => document.getElementById(id);

/** An element with a class and children: elements and texts. Nothing is ever read as HTML. */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** The conversation: turns of {said, replies}; a reply has {model, reasoning, content, ...}. */
const turns = [];
/** What ends the replies that are being sampled. */
let stopping = null;

const models = () => [$('left').value, $('right').value].filter((name, i) => name && (i === 0 || name !== 'none'));

function headers() {
  const key = $('key').value.trim();
  return {'content-type': 'application/json', ...(key ? {authorization: `Bearer ${key}`} : {})};
}

/** The message of an answer that is an error. */
async function problem(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return text || `status ${response.status}`;
  }
}

async function listModels() {
  const response = await fetch('/v1/models', {headers: headers()});
  if (!response.ok) {
    say(response.status === 401 ? 'This server needs a key: Alt+S.' : await problem(response));
    return;
  }
  const names = (await response.json()).data.map(model => model.id);
  const option = name => {
    const made = element('option', '', name);
    made.value = name;
    return made;
  };
  const chosen = [$('left').value, $('right').value];
  const none = element('option', '', 'nothing');
  none.value = 'none';
  $('left').replaceChildren(...names.map(option));
  $('right').replaceChildren(none, ...names.map(option));
  if (names.includes(chosen[0])) $('left').value = chosen[0];
  if (names.includes(chosen[1])) $('right').value = chosen[1];
  $('beside').hidden = names.length < 2;
  say('');
}

function say(text) {
  $('status').textContent = text;
}

/** What a number field says; undefined if nothing. */
function number(id) {
  const text = $(id).value.trim();
  return text === '' || !Number.isFinite(Number(text)) ? undefined : Number(text);
}

/** The request for the reply of `model` in the place of `reply` in the last of `upTo` turns. */
function request(model, column, upTo) {
  const messages = [];
  const system = $('system').value.trim();
  if (system) messages.push({role: 'system', content: system});
  upTo.forEach((turn, i) => {
    messages.push({role: 'user', content: turn.said});
    const reply = turn.replies[Math.min(column, turn.replies.length - 1)];
    if (i < upTo.length - 1 && reply) {
      const said = {role: 'assistant', content: reply.content};
      if (reply.reasoning) said.reasoning_content = reply.reasoning;
      messages.push(said);
    }
  });
  const top_k = number('top_k');
  return {
    model, messages, stream: true, stream_options: {include_usage: true},
    temperature: number('temperature'), top_p: number('top_p'), top_k, min_p: number('min_p'),
    max_tokens: number('max_tokens'), seed: number('seed'),
  };
}

/** Hands each event of a stream to `take`. */
async function events(response, take) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let held = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    held += decoder.decode(value, {stream: true});
    const whole = held.split('\n\n');
    held = whole.pop();
    for (const event of whole) {
      if (event.startsWith('data: ') && event !== 'data: [DONE]') take(JSON.parse(event.slice(6)));
    }
  }
}

/** Samples a reply into `reply`, and shows it as it comes. */
async function sample(reply, column, upTo, signal) {
  const begun = performance.now();
  Object.assign(reply, {reasoning: '', content: '', wrong: '', reason: null, tokens: 0, isOpen: true});
  show(reply);
  try {
    const body = JSON.stringify(request(reply.model, column, upTo));
    const response = await fetch('/v1/chat/completions', {method: 'POST', headers: headers(), body, signal});
    if (!response.ok) throw new Error(await problem(response));
    await events(response, chunk => {
      if (chunk.error) throw new Error(chunk.error.message);
      if (chunk.seed !== undefined) reply.seed = chunk.seed;
      if (chunk.usage) reply.tokens = chunk.usage.completion_tokens;
      for (const choice of chunk.choices) {
        reply.reasoning += choice.delta.reasoning_content ?? '';
        reply.content += choice.delta.content ?? '';
        reply.reason = choice.finish_reason ?? reply.reason;
      }
      later(reply);
    });
  } catch (error) {
    if (error.name === 'AbortError') reply.reason = 'stopped';
    else reply.wrong = error.message || String(error);
  }
  reply.isOpen = false;
  reply.seconds = (performance.now() - begun) / 1000;
  show(reply);
}

/** Replies that are to be drawn in the next frame. */
const waiting = new Set();

function later(reply) {
  if (waiting.size === 0) {
    requestAnimationFrame(() => {
      waiting.forEach(show);
      waiting.clear();
    });
  }
  waiting.add(reply);
}

/** A text whose fenced code stands apart. */
function formatted(text) {
  return text.split('```').flatMap((part, i) => {
    if (i % 2 === 0) return part ? [part] : [];
    const code = part.includes('\n') ? part.slice(part.indexOf('\n') + 1) : part;
    return [element('pre', '', code)];
  });
}

/** Draws a reply. */
function show(reply) {
  const talk = $('talk');
  const isAtEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
  const {box} = reply;
  const {who, thinking, thought, title, content, wrong, foot} = box.parts;
  who.textContent = reply.model;
  thinking.hidden = !reply.reasoning;
  const words = reply.reasoning.split(/\s+/).filter(Boolean).length;
  title.textContent = reply.isOpen && !reply.content ? `Thinking, ${words} words` : `Thought, ${words} words`;
  if (thought.textContent !== reply.reasoning) thought.textContent = reply.reasoning;
  content.replaceChildren(...formatted(reply.content));
  wrong.textContent = reply.wrong;
  box.setAttribute('aria-busy', String(reply.isOpen));
  if (reply.isOpen) {
    foot.replaceChildren(reply.content || reply.reasoning ? '' : 'waiting');
  } else {
    const again = element('button', 'again', 'Again');
    again.title = 'Sample this reply again, and go on from there (Alt+R: the last)';
    again.addEventListener('click', () => regenerate(reply));
    const copy = element('button', '', 'Copy');
    copy.addEventListener('click', () => copyText(reply.content));
    const why = {length: 'cut at the longest', stopped: 'stopped'}[reply.reason];
    const speed = reply.tokens ? `${reply.tokens} tokens, ${(reply.tokens / reply.seconds).toFixed(0)} per second` : '';
    const seed = reply.seed === undefined ? '' : `seed ${reply.seed}`;
    foot.replaceChildren(again, copy, [why, speed, seed].filter(Boolean).join(' · '));
  }
  if (isAtEnd) talk.scrollTop = talk.scrollHeight;
}

/** A reply with its place in the page. */
function newReply(model) {
  const title = element('summary');
  const thought = element('div');
  const thinking = element('details', 'thinking', title, thought);
  const parts = {
    who: element('div', 'who'), thinking, thought, title,
    content: element('div', 'content'), wrong: element('div', 'wrong'), foot: element('div', 'foot'),
  };
  const box = element('section', 'reply', parts.who, thinking, parts.content, parts.wrong, parts.foot);
  box.parts = parts;
  return {model, box, reasoning: '', content: ''};
}

/** Samples replies, with a way to stop them. */
async function sampling(works) {
  stopping = new AbortController();
  $('send').textContent = 'Stop';
  const {signal} = stopping;
  await Promise.all(works.map(work => work(signal)));
  stopping = null;
  $('send').textContent = 'Send';
}

async function send() {
  const said = $('text').value.trim();
  if (!said || stopping) return;
  $('hint')?.remove();
  const replies = models().map(newReply);
  const turn = {said, replies};
  turns.push(turn);
  turn.boxes = [
    element('div', 'said', said),
    element('div', replies.length > 1 ? 'replies two' : 'replies', ...replies.map(reply => reply.box)),
  ];
  $('talk').append(...turn.boxes);
  $('text').value = '';
  grow();
  $('talk').scrollTop = $('talk').scrollHeight;
  const upTo = turns.slice();
  await sampling(replies.map((reply, i) => signal => sample(reply, i, upTo, signal)));
}

/** Samples a reply again; what came after it is forgotten. */
async function regenerate(reply) {
  if (stopping || !reply) return;
  const at = turns.findIndex(turn => turn.replies.includes(reply));
  if (at < 0) return;
  for (const turn of turns.splice(at + 1)) turn.boxes.forEach(box => box.remove());
  const column = turns[at].replies.indexOf(reply);
  const upTo = turns.slice();
  await sampling([signal => sample(reply, column, upTo, signal)]);
}

/** The conversation as Markdown. */
function markdown() {
  const system = $('system').value.trim();
  const parts = system ? [`**System:** ${system}`] : [];
  for (const turn of turns) {
    parts.push(`**User:** ${turn.said}`);
    for (const reply of turn.replies) {
      const thought = reply.reasoning ? `${reply.reasoning.split('\n').map(line => `> ${line}`).join('\n')}\n\n` : '';
      parts.push(`**${reply.model}:**\n\n${thought}${reply.content}`);
    }
  }
  return `${parts.join('\n\n')}\n`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch {
    say('The browser did not allow copying.');
  }
}

function begin() {
  stopping?.abort();
  for (const turn of turns.splice(0)) turn.boxes.forEach(box => box.remove());
  $('text').focus();
}

/** As high as its text. */
function grow() {
  const text = $('text');
  text.rows = Math.min(12, text.value.split('\n').length);
}

function settings() {
  $('dialog').showModal();
}

$('form').addEventListener('submit', event => {
  event.preventDefault();
  if (stopping) stopping.abort();
  else send();
});
$('text').addEventListener('input', grow);
$('text').addEventListener('keydown', event => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
$('copy').addEventListener('click', () => copyText(markdown()));
$('settings').addEventListener('click', settings);
$('new').addEventListener('click', begin);
$('key').addEventListener('change', listModels);
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && stopping && !$('dialog').open) stopping.abort();
  if (!event.altKey || event.ctrlKey || event.metaKey) return;
  const last = turns.at(-1)?.replies ?? [];
  const acts = {
    KeyR: () => regenerate(last.find(reply => reply.box.contains(document.activeElement)) ?? last[0]),
    KeyC: () => copyText(markdown()),
    KeyS: settings,
    KeyN: begin,
  };
  const act = acts[event.code];
  if (act) {
    event.preventDefault();
    act();
  }
});
listModels().catch(error => say(String(error)));
