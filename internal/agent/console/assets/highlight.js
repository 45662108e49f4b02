// A rough colouring of code: comments, strings, numbers and the words that most
// languages share. Being wrong costs a colour, never a character.

import { el } from './dom.js';

const words = new Set(('abstract and as async await bool boolean break case catch chan char class const continue def default defer del do done echo elif else '
  + 'end enum esac except export extends fallthrough false fi final finally float fn for foreach from func function global go goto if impl implements import in '
  + 'include int interface is lambda let local loop map match mod module mut namespace new nil none not null number of or package pass private protected pub '
  + 'public raise range return select self static string struct super switch then this throw trait true try type typeof undefined unsafe until use using val '
  + 'var void when where while with yield None True False SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE JOIN ON AND OR NOT NULL ORDER BY GROUP').split(' '));
const hash = /^(sh|bash|zsh|shell|console|python|py|ruby|rb|yaml|yml|toml|perl|r|make|makefile|dockerfile|conf|ini|elixir|powershell|nix|hcl|terraform)$/i;
const dash = /^(sql|lua|haskell|hs|ada|vhdl)$/i;
const plain = /^(|text|txt|plain|plaintext|markdown|md|log|output|csv)$/i;
const tooLong = 30000;

export function highlight(code, language) {
  if (plain.test(language) || code.length > tooLong) return [code];
  const comment = hash.test(language) ? '(?<![\\w$&])#[^\\n]*' : dash.test(language) ? '--[^\\n]*' : '\\/\\/[^\\n]*|\\/\\*[\\s\\S]*?(?:\\*\\/|$)';
  const token = new RegExp('(' + comment + ')|("(?:\\\\.|[^"\\\\\\n])*"|\'(?:\\\\.|[^\'\\\\\\n])*\'|`(?:\\\\.|[^`\\\\])*`)|(?<![\\w.])(\\d[\\w.]*)|([A-Za-z_]\\w*)', 'g');
  const out = [];
  let at = 0;
  for (const m of code.matchAll(token)) {
    const kind = m[1] ? 'comment' : m[2] ? 'string' : m[3] ? 'number' : words.has(m[4]) ? 'word' : code[m.index + m[0].length] === '(' ? 'call' : '';
    if (!kind) continue;
    if (m.index > at) out.push(code.slice(at, m.index));
    out.push(el('span', { class: 'tok-' + kind }, m[0]));
    at = m.index + m[0].length;
  }
  out.push(code.slice(at));
  return out;
}
