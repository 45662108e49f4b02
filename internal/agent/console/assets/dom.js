// Small things for building the page from nodes.

const svg = 'http://www.w3.org/2000/svg';

// el makes an element; children are nodes, strings (which become text) or lists of them.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  node.append(...children.flat(Infinity));
  return node;
}

export function icon(name) {
  const node = document.createElementNS(svg, 'svg');
  node.setAttribute('class', 'icon');
  node.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(svg, 'use');
  use.setAttribute('href', '#i-' + name);
  node.append(use);
  return node;
}

async function copy(text) {
  if (navigator.clipboard && isSecureContext) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch { /* not permitted: the old way below may be */ }
  }
  const area = el('textarea', { class: 'sr', readonly: '' });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  focused?.focus();
  if (!done) throw new Error('copying is not permitted');
}

export function copyButton(text, label) {
  const button = el('button', { type: 'button', class: 'copy', 'aria-label': label, title: label }, icon('copy'));
  let back;
  button.addEventListener('click', async () => {
    let shown = 'check';
    try {
      await copy(text());
    } catch {
      shown = 'cross';
    }
    button.replaceChildren(icon(shown));
    button.setAttribute('aria-label', shown === 'check' ? 'Copied' : 'Could not copy');
    clearTimeout(back);
    back = setTimeout(() => {
      button.replaceChildren(icon('copy'));
      button.setAttribute('aria-label', label);
    }, 1600);
  });
  return button;
}

// command fills a box with a command line to run elsewhere. Its words are kept
// whole: a flag that is broken after its hyphens reads like two.
export function command(box, line) {
  box.replaceChildren(el('code', {}, line.split(' ').flatMap((w, i) => [i ? ' ' : '', el('span', {}, w)])), copyButton(() => line, 'Copy the command'));
}
