// Markdown to DOM nodes. What a model writes never becomes markup: every piece of
// it ends up in a text node, and a link only when it is http, https or mailto.

import { el, copyButton } from './dom.js';
import { highlight } from './highlight.js';

const fence = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const heading = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const rule = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const item = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const quote = /^ {0,3}> ?/;
const divider = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const longParagraph = 6000; // beyond it inline marks are not looked for

const width = (s) => s.replace(/\t/g, '    ').length;
const blank = (s) => s.trim() === '';
const starts = (s) => fence.test(s) || heading.test(s) || rule.test(s) || item.test(s) || quote.test(s);

// blocks splits a text; every block carries its source, so that what did not
// change need not be built again.
export function blocks(text) {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  const out = [];
  let i = 0;
  const push = (type, from, more) => out.push({ type, source: lines.slice(from, i).join('\n'), ...more });
  while (i < lines.length) {
    const from = i, line = lines[i];
    let m;
    if (blank(line)) {
      i++;
    } else if ((m = fence.exec(line))) {
      const end = new RegExp('^ {0,3}' + m[1][0] + '{' + m[1].length + ',}\\s*$');
      for (i++; i < lines.length && !end.test(lines[i]); i++);
      const code = lines.slice(from + 1, i).join('\n');
      i++;
      push('code', from, { code, language: m[2] });
    } else if ((m = heading.exec(line))) {
      i++;
      push('heading', from, { level: m[1].length, text: m[2] });
    } else if (rule.test(line)) {
      i++;
      push('rule', from);
    } else if (quote.test(line)) {
      while (i < lines.length && !blank(lines[i]) && (quote.test(lines[i]) || !starts(lines[i]))) i++;
      push('quote', from, { text: lines.slice(from, i).map((l) => l.replace(quote, '')).join('\n') });
    } else if (item.test(line)) {
      for (i++; i < lines.length; i++) {
        if (blank(lines[i])) {
          const next = lines[i + 1];
          if (next === undefined || !(item.test(next) || /^\s{2,}\S/.test(next))) break;
        } else if (!item.test(lines[i]) && !/^\s/.test(lines[i]) && starts(lines[i])) {
          break;
        }
      }
      push('list', from, { lines: lines.slice(from, i) });
    } else if (line.includes('|') && i + 1 < lines.length && lines[i + 1].includes('-') && divider.test(lines[i + 1])) {
      for (i += 2; i < lines.length && !blank(lines[i]) && lines[i].includes('|'); i++);
      push('table', from, { rows: lines.slice(from, i) });
    } else {
      for (i++; i < lines.length && !blank(lines[i]) && !starts(lines[i]); i++);
      push('text', from, { text: lines.slice(from, i).join('\n') });
    }
  }
  return out;
}

// render makes node show text, keeping the nodes of blocks that are as they were.
export function render(node, text) {
  const next = blocks(text);
  const had = node.blocks || [];
  let i = 0;
  for (; i < next.length; i++) {
    const old = had[i], child = node.children[i];
    if (old && old.source === next[i].source && old.type === next[i].type) continue;
    if (old && old.type === 'code' && next[i].type === 'code' && old.language === next[i].language) {
      fillCode(child, next[i]);
    } else if (child) {
      child.replaceWith(build(next[i], 0));
    } else {
      node.append(build(next[i], 0));
    }
  }
  while (node.children.length > next.length) node.lastElementChild.remove();
  node.blocks = next;
}

function build(b, depth) {
  switch (b.type) {
    case 'code': return fillCode(codeBlock(b), b);
    case 'heading': return el('h' + Math.min(6, b.level + 2), {}, inline(b.text));
    case 'rule': return el('hr');
    case 'quote': return el('blockquote', {}, nested(b.text, depth));
    case 'list': return list(b.lines, depth);
    case 'table': return table(b.rows);
    default: return el('p', {}, inline(b.text));
  }
}

const nested = (text, depth) => depth > 6 ? [text] : blocks(text).map((b) => build(b, depth + 1));

function codeBlock(b) {
  const code = el('code');
  return el('figure', { class: 'code' },
    el('figcaption', {}, el('span', {}, b.language || 'text'), copyButton(() => code.textContent, 'Copy the code')),
    el('pre', { tabindex: '0', role: 'region', 'aria-label': b.language ? b.language + ' code' : 'code' }, code));
}

function fillCode(figure, b) {
  figure.querySelector('code').replaceChildren(...highlight(b.code, b.language));
  return figure;
}

function list(lines, depth) {
  const first = item.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const indent = width(first[1]);
  const node = el(ordered ? 'ol' : 'ul');
  if (ordered && parseInt(first[2], 10) !== 1) node.start = parseInt(first[2], 10);
  let parts = [];
  const flush = () => {
    if (!parts.length) return;
    const text = parts.join('\n').replace(/\s+$/, '');
    const task = /^\[([ xX])\] /.exec(text);
    const inner = nested(task ? text.slice(4) : text, depth + 1);
    // A single paragraph sits in the item itself: a tight list.
    const content = [];
    for (const n of inner) {
      if (n.nodeName === 'P' && !/\n\s*\n/.test(text)) content.push(...n.childNodes);
      else content.push(n);
    }
    node.append(task ? el('li', { class: 'task' }, task[1] === ' ' ? '☐ ' : '☑ ', content) : el('li', {}, content));
    parts = [];
  };
  let content = indent + 2;
  for (const line of lines) {
    const m = item.exec(line);
    if (m && width(m[1]) < content && (width(m[1]) <= indent + 1)) {
      flush();
      content = width(m[1]) + m[2].length + 1;
      parts = [m[3]];
    } else {
      parts.push(line.replace(/\t/g, '    ').replace(new RegExp('^ {0,' + content + '}'), ''));
    }
  }
  flush();
  return node;
}

const cells = (row) => row.trim().replace(/^\|/, '').replace(/\|$/, '').split(/(?<!\\)\|/).map((c) => c.trim().replace(/\\\|/g, '|'));

function table(rows) {
  const head = cells(rows[0]);
  const row = (r, tag) => el('tr', {}, head.map((_, i) => el(tag, tag === 'th' ? { scope: 'col' } : {}, inline(r[i] || ''))));
  return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'table' }, el('table', {},
    el('thead', {}, row(head, 'th')), el('tbody', {}, rows.slice(2).map((r) => row(cells(r), 'td')))));
}

const mark = /\\([\\`*_{}[\]()#+\-.!|~>])|(`+)([\s\S]*?[^`])\2(?!`)|(\*\*|__)(?=\S)([\s\S]*?\S)\4|~~(?=\S)([\s\S]*?\S)~~|\*(?![\s*])([^*]*?[^\s*])\*(?!\*)|(?<![\p{L}\p{N}_])_(?![\s_])([^_]*?[^\s_])_(?![\p{L}\p{N}_])|\[([^\[\]]*)\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\)[^()\s]*)?)>?(?:\s+"[^"]*")?\s*\)|(https?:\/\/[^\s<>()"'`]*[^\s<>()"'`.,;:!?])|( {2,}\n)/gu;

export function inline(text, depth = 0) {
  if (depth > 6 || text.length > longParagraph) return [text];
  const out = [];
  let at = 0;
  for (const m of text.matchAll(mark)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    at = m.index + m[0].length;
    const [, escaped, , code, , strong, struck, star, under, label, href, bare, hard] = m;
    if (escaped) out.push(escaped);
    else if (code !== undefined) out.push(el('code', {}, code.replace(/^ (.*\S.*) $/s, '$1')));
    else if (strong) out.push(el('strong', {}, inline(strong, depth + 1)));
    else if (struck) out.push(el('s', {}, inline(struck, depth + 1)));
    else if (star || under) out.push(el('em', {}, inline(star || under, depth + 1)));
    else if (href) out.push(link(href, label ? inline(label, depth + 1) : [href], m[0]));
    else if (bare) out.push(link(bare, [bare], bare));
    else if (hard) out.push(el('br'));
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

function link(href, content, source) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return source;
  }
  if (!['http:', 'https:', 'mailto:'].includes(url.protocol)) return source;
  return el('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer' }, content);
}
