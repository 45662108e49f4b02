// The page: what is shown for what the agent says, and what the user can do.

import { el, icon, copyButton, command } from './dom.js';
import { Link } from './link.js';
import { render, inline } from './markdown.js';

const $ = (id) => document.getElementById(id);
// Several dashboards may share an origin, each below a path of its own.
const place = 'creel.' + (location.pathname === '/' ? '' : location.pathname + '.');
const keep = {
  get: (k) => { try { return sessionStorage.getItem(place + k) || ''; } catch { return ''; } },
  set: (k, v) => { try { v ? sessionStorage.setItem(place + k, v) : sessionStorage.removeItem(place + k); } catch { /* private mode */ } },
};
const suggestions = [
  ['How are you confined?', 'Which protections are in force, and what they mean', 'How is this sandbox confined? Explain each protection in a sentence or two.'],
  ['Review a design', 'A checklist for a small service', 'Give me a short checklist for reviewing the design of a small web service.'],
  ['Write some code', 'A worker pool in Go, with a test', 'Write a small worker pool in Go with context cancellation, and a test for it.'],
];
// What a person can do about a fault, by its code.
const advice = {
  relay_unreachable: ['See what the sandbox logged:', (n) => `creel logs ${n}`],
  relay_unauthorized: ['Start the agent again:', (n) => `creel stop ${n} && creel start ${n}`],
  gateway_unreachable: ['Start the gateway:', () => 'creel gateway start'],
  provider_credential: ['Give the provider another key:', () => 'creel inference set --credential-env VARIABLE'],
  provider_endpoint: ['See what is set:', () => 'creel inference get'],
  provider_web_page: ['See what is set:', () => 'creel inference get'],
  provider_not_found: ['See what is set:', () => 'creel inference get'],
  provider_unreachable: ['See what is set:', () => 'creel inference get'],
  model_not_found: ['Choose another model:', () => 'creel inference set --model MODEL'],
};
const setModel = 'creel inference set --provider PROVIDER --model MODEL';

const exchanges = new Map(); // id → {id, question, text, node, body, state}
const unsent = new Map(); // id → chat message that no echo has confirmed
let link, info = {}, busy = '', follow = true, frame = 0;

// ---- the token: from the fragment, then out of sight

function takeToken() {
  const m = /[#&]token=([^&]*)/i.exec(location.hash);
  if (m) {
    let token = m[1];
    try { token = decodeURIComponent(token); } catch { /* taken as it is */ }
    keep.set('token', token);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return keep.get('token');
}

// Why the page is locked: what it says, and what a person can do about it.
const locks = {
  missing: ['This page needs its token', 'The address that Creel gives carries it. Open the page from a terminal.'],
  refused: ['This token is not accepted', 'The agent has another token now, the address was not copied whole, or something else answers in the agent’s place. Open the page again from a terminal.'],
  outdated: ['This token is no longer valid', 'The agent has been given another one since, or something else answers in its place. Open the page again from a terminal.'],
};

function locked(why) {
  const name = keep.get('sandbox') || 'SANDBOX';
  if (why !== 'missing') keep.set('token', '');
  [$('gate-title').textContent, $('gate-text').textContent] = locks[why];
  command($('gate-command'), `creel dashboard ${name} --open`);
  command($('gate-elsewhere'), `creel dashboard ${name} --show-token`);
  show({ gate: true });
  announce($('gate-title').textContent);
}

function show({ gate = false }) {
  $('gate').hidden = !gate;
  $('dock').hidden = $('facts').hidden = $('log').hidden = gate;
  if (gate) $('empty').hidden = $('no-model').hidden = $('strip').hidden = true;
}

const announce = (text) => { $('announce').textContent = text; };

// ---- the conversation

function exchange(id, question, at) {
  const ask = el('article', { class: 'question' }, el('h3', { class: 'sr' }, 'You'), el('div', { class: 'bubble' }, question));
  const body = el('div', { class: 'body' });
  const answer = el('article', { class: 'answer' }, el('h3', { class: 'sr' }, 'Answer'), body);
  const x = { id, question, text: '', node: el('div', { class: 'exchange', id: 'x-' + id }, ask, answer), body, answer, at, dirty: false };
  exchanges.set(id, x);
  $('log').append(x.node);
  return x;
}

function begin(x) {
  busy = x.id;
  x.answer.classList.add('streaming');
  x.answer.setAttribute('aria-busy', 'true');
  if (!x.text) x.body.replaceChildren(el('p', { class: 'thinking' }, el('span', { class: 'sr' }, 'Waiting for the answer'), el('i'), el('i'), el('i')));
  controls();
}

function grow(x, text) {
  if (!x.text) x.body.replaceChildren();
  x.text += text;
  x.dirty = true;
  frame ||= requestAnimationFrame(paint);
}

function paint() {
  frame = 0;
  for (const x of exchanges.values()) {
    if (!x.dirty) continue;
    x.dirty = false;
    render(x.body, x.text);
  }
  scroll();
}

function end(x, { state = '', model = '', at = '', error = null }) {
  if (busy === x.id) busy = '';
  x.dirty = false;
  x.answer.classList.remove('streaming');
  if (x.text) render(x.body, x.text);
  else x.body.replaceChildren();
  x.answer.querySelector('.after')?.remove();
  x.answer.querySelector('.fault')?.remove();
  const last = [...exchanges.keys()].at(-1) === x.id;
  if (error && error.code !== 'no_model_configured') x.answer.append(fault(x, error));
  const after = el('div', { class: 'after' });
  if (x.text) after.append(copyButton(() => x.text, 'Copy the answer'));
  if ((error || state === 'stopped') && last) {
    const again = el('button', { type: 'button', class: 'again' }, icon('again'), 'Ask again');
    again.addEventListener('click', () => ask(x.question, x.id));
    after.append(again);
  }
  const notes = [model, clock(at), { stopped: 'stopped', length: 'ended at the model’s length limit' }[state]].filter(Boolean);
  if (x.text || state) after.append(el('span', { class: 'note' }, notes.join(' · ')));
  if (after.childNodes.length) x.answer.append(after);
  x.answer.removeAttribute('aria-busy');
  x.state = state;
  x.failed = Boolean(error);
  controls();
  scroll();
}

function fault(x, { code, message }) {
  const box = el('div', { class: 'fault', role: 'group', 'aria-label': 'Error' }, icon('alert'), el('div', {}, el('p', {}, inline(message || 'The answer failed.'))));
  const known = advice[code];
  if (known) {
    const line = el('div', { class: 'command' });
    command(line, known[1](info.sandbox || 'SANDBOX'));
    box.lastChild.append(el('p', { class: 'small' }, known[0]), line);
  }
  if (code) box.lastChild.append(el('p', { class: 'code-name' }, code));
  return box;
}

const clock = (at) => {
  const t = at ? new Date(at) : null;
  return t && !isNaN(t) ? t.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }) : '';
};

function ask(text, replaces = '') {
  if (busy || !link.online || !text.trim()) return false;
  const id = Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36).padStart(2, '0')).join('');
  const message = { type: 'chat', id, text, replaces };
  if (!link.send(message)) return false;
  unsent.set(id, message);
  for (const again of document.querySelectorAll('.again')) again.remove();
  if (replaces) drop(replaces);
  follow = true;
  begin(exchange(id, text));
  empty();
  scroll();
  return true;
}

function drop(id) {
  exchanges.get(id)?.node.remove();
  exchanges.delete(id);
}

// ---- what the agent says

const said = {
  hello(m) {
    info = m;
    keep.set('sandbox', m.sandbox);
    document.title = m.sandbox ? m.sandbox + ' · Creel' : 'Creel console';
    busy = '';
    exchanges.clear();
    $('log').replaceChildren();
    $('log').setAttribute('aria-live', 'off'); // what is old is not read out
    for (const e of m.history || []) {
      if (e.role === 'user') exchange(e.id, e.text, e.at);
    }
    for (const e of m.history || []) {
      const x = exchanges.get(e.id);
      if (e.role !== 'assistant' || !x) continue;
      x.text = e.text;
      end(x, e);
    }
    if (m.pending) {
      const x = exchanges.get(m.pending.id);
      if (x) {
        begin(x);
        grow(x, m.pending.text || '');
      }
    }
    for (const [id, message] of unsent) {
      if (exchanges.has(id)) unsent.delete(id);
      else if (!busy && link.send(message)) begin(exchange(id, message.text));
      else unsent.delete(id);
    }
    show({});
    facts();
    said.model({ model: m.model, code: m.model_error?.code, message: m.model_error?.message });
    empty();
    scroll(true);
    requestAnimationFrame(() => $('log').setAttribute('aria-live', 'polite'));
  },
  user(m) {
    unsent.delete(m.id);
    if (!exchanges.has(m.id)) begin(exchange(m.id, m.text, m.at));
    empty();
    scroll();
  },
  delta(m) {
    const x = exchanges.get(m.id);
    if (x) grow(x, m.text);
  },
  done(m) {
    const x = exchanges.get(m.id);
    if (!x) return;
    end(x, m);
    announce(m.state === 'stopped' ? 'Answer stopped' : 'Answer finished');
  },
  error(m) {
    unsent.delete(m.id);
    const x = exchanges.get(m.id);
    if (!x) return announce(m.message);
    end(x, { error: m, at: m.at });
    announce('The answer failed: ' + m.message);
    if (m.code === 'no_model_configured') said.model(m);
  },
  model(m) {
    info.model = m.model || '';
    info.modelCode = m.code || '';
    const none = m.code === 'no_model_configured';
    $('model').dataset.state = info.model ? 'ok' : m.code ? 'bad' : 'asking';
    $('model-name').textContent = info.model || (none ? 'no model' : m.code ? 'model unknown' : 'asking…');
    $('model').title = info.model || m.message || '';
    $('no-model').hidden = !none;
    if (none && !$('no-model-command').firstChild) command($('no-model-command'), setModel);
    facts();
    empty();
    controls();
    scroll();
  },
  removed(m) { drop(m.id); empty(); },
  cleared() {
    for (const id of [...exchanges.keys()]) drop(id);
    busy = '';
    empty();
    controls();
    announce('The conversation was cleared');
  },
};

// ---- facts about the sandbox

const tiers = {
  namespaces: ['ok', 'Confined', 'The agent sees its own workspace, its own processes and a network that ends at the model’s relay.',
    'This agent sees its own workspace and the model, nothing else.'],
  landlock: ['warn', 'Partly confined', 'The agent runs beside other programs of this machine; Landlock and seccomp fence it in.',
    'This agent is partly confined. The shield above says what that means.'],
  unconfined: ['bad', 'Not confined', 'Nothing keeps the agent from what its user may do. This was accepted explicitly.',
    'Nothing confines this agent: it may do what its user may.'],
};

function facts() {
  $('sandbox').textContent = info.sandbox || '';
  const [level, short, text] = tiers[info.tier] || ['warn', 'Confinement unknown', 'The sandbox did not say how it is confined.'];
  const open = $('open-details');
  open.dataset.level = level;
  open.setAttribute('aria-label', 'Confinement: ' + short + '. Show details');
  $('tier').textContent = short;
  $('tier-icon').setAttribute('href', level === 'ok' ? '#i-shield' : '#i-alert');
  $('verdict').dataset.level = level;
  $('verdict').replaceChildren(el('p', { class: 'verdict-title' }, icon(level === 'ok' ? 'shield' : 'alert'), short), el('p', {}, text),
    info.reason ? el('p', { class: 'reason' }, info.reason) : '');
  $('protections').replaceChildren(...(info.protections || []).map((p) => el('li', { class: p.on ? 'on' : 'off' },
    icon(p.on ? 'check' : 'cross'), el('div', {}, el('strong', {}, p.name), el('span', { class: 'sr' }, p.on ? ': on. ' : ': off. '), p.detail ? el('span', { class: 'detail' }, p.detail) : ''),
    el('span', { class: 'badge', 'aria-hidden': 'true' }, p.on ? 'on' : 'off'))));
  const hash = info.policy_hash ? el('span', { class: 'hash' }, el('code', { title: info.policy_hash }, info.policy_hash.slice(0, 16)), copyButton(() => info.policy_hash, 'Copy the policy hash')) : 'none';
  const rows = [['Name', info.sandbox || '–'], ['Tier', info.tier || '–'], ['Model', $('model-name').textContent], ['Policy', hash],
    ['History', info.saved ? 'kept in the workspace' : 'not saved: kept until the agent ends'], ['Version', info.version || '–']];
  $('about').replaceChildren(...rows.map(([k, v]) => el('div', {}, el('dt', {}, k), el('dd', {}, v))));
}

function empty() {
  const none = exchanges.size === 0;
  $('empty').hidden = !none || !$('gate').hidden;
  $('empty').classList.toggle('brief', !$('no-model').hidden);
  $('empty-text').textContent = (tiers[info.tier] || [])[3] || '';
  $('main').classList.toggle('is-empty', none);
  $('clear').disabled = none;
}

for (const [title, text, prompt] of suggestions) {
  const b = el('button', { type: 'button' }, el('strong', {}, title), el('span', {}, text));
  b.addEventListener('click', () => { if (!ask(prompt)) { draft.value = prompt; resize(); draft.focus(); } });
  $('suggestions').append(b);
}

// ---- composing

const draft = $('draft');
const touch = matchMedia('(hover: none) and (pointer: coarse)').matches;

function resize() {
  draft.style.height = 'auto';
  draft.style.height = Math.min(draft.scrollHeight, innerHeight * 0.4) + 'px';
  keep.set('draft', draft.value);
  controls();
}

function controls() {
  const running = Boolean(busy);
  $('send').hidden = running;
  $('stop').hidden = !running;
  $('send').disabled = !draft.value.trim() || !link?.online || info.modelCode === 'no_model_configured';
  $('composer').classList.toggle('busy', running);
  $('hint').classList.toggle('busy', running);
  for (const b of $('suggestions').children) b.disabled = !link?.online || info.modelCode === 'no_model_configured';
}

function submit() {
  if ($('send').disabled || !ask(draft.value.trim())) return;
  draft.value = '';
  resize();
}

const stop = () => { if (busy) link.send({ type: 'stop', id: busy }); };

draft.addEventListener('input', resize);
draft.addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && !touch) {
    e.preventDefault();
    submit();
  }
});
// A message does not begin with an empty line; some automation sends one after Enter.
draft.addEventListener('beforeinput', (e) => { if (e.inputType === 'insertLineBreak' && !draft.value.trim()) e.preventDefault(); });
$('composer').addEventListener('submit', (e) => { e.preventDefault(); submit(); });
$('stop').addEventListener('click', () => { stop(); draft.focus(); });
addEventListener('keydown', (e) => { if (e.key === 'Escape' && !document.querySelector('dialog[open]')) stop(); });

// ---- scrolling: follow the answer unless the user went up to read

const page = document.scrollingElement;
const atEnd = () => page.scrollHeight - page.scrollTop - innerHeight < 80;
addEventListener('scroll', () => { follow = atEnd(); $('latest').hidden = follow; }, { passive: true });
$('latest').addEventListener('click', () => { follow = true; scroll(); });
function scroll(force) {
  if (force) follow = true;
  if (follow) page.scrollTop = page.scrollHeight;
  $('latest').hidden = follow || atEnd();
}

// ---- dialogs

const details = $('details'), question = $('ask-clear');
$('open-details').addEventListener('click', () => details.showModal());
$('close-details').addEventListener('click', () => details.close());
for (const d of [details, question]) d.addEventListener('click', (e) => { if (e.target === d) d.close(); });
$('clear').addEventListener('click', () => question.showModal());
$('keep').addEventListener('click', () => question.close());
$('really-clear').addEventListener('click', () => { link.send({ type: 'clear' }); question.close(); draft.focus(); });

// ---- the connection

let shown = 0;
function state(name, pause) {
  clearTimeout(shown);
  if (name === 'locked') return locked(link.accepted ? 'outdated' : 'refused');
  controls();
  if (name === 'online') {
    if (!$('strip').hidden) announce('Connected again');
    $('strip').hidden = true;
    document.body.dataset.ready = 'yes';
    return;
  }
  const tell = () => {
    $('strip-text').textContent = name === 'connecting' ? 'Connecting to the agent…' : pause > 1500 ? `Connection lost. Trying again in ${Math.round(pause / 1000)} s.` : 'Connection lost. Trying again…';
    $('retry').hidden = name === 'connecting';
    $('strip').hidden = false;
  };
  // A blink is not worth a word.
  if ($('strip').hidden) shown = setTimeout(tell, 400); else tell();
}
$('retry').addEventListener('click', () => link.now());

function start() {
  const token = takeToken();
  if (!token) return locked('missing');
  draft.value = keep.get('draft');
  show({});
  link = new Link(token, { message: (m) => said[m.type]?.(m), state });
  resize();
  link.connect();
  if (!touch) draft.focus();
}
// The same page may be opened again with another token.
addEventListener('hashchange', () => { if (/token=/i.test(location.hash)) { takeToken(); location.reload(); } });
start();
