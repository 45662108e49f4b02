// The connection to the agent: opens, proves itself, and comes back by itself with
// growing pauses after the forward dropped. It knows nothing of the page.

const firstPause = 300, longestPause = 10000, patience = 8000;
const badToken = 4401;

const utf8 = new TextEncoder();
const encode = (bytes) => btoa(String.fromCharCode(...bytes));
const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// Browsers calculate only for pages of this machine and those behind TLS.
const canProve = Boolean(globalThis.crypto?.subtle);

const newNonce = () => encode(crypto.getRandomValues(new Uint8Array(32))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

// The page and the agent prove to each other that they know the token. Neither sends
// it, so a program that has taken the agent's port does not learn it. answer checks
// the agent's proof and returns the page's own; null when the agent does not know
// this token.
async function answer(token, nonce, proof) {
  const key = await crypto.subtle.importKey('raw', utf8.encode(token), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
  const said = (by) => utf8.encode([by, location.origin, nonce, proof.nonce].join('\n'));
  if (!await crypto.subtle.verify('HMAC', key, decode(proof.mac), said('creel dashboard server'))) return null;
  return encode(new Uint8Array(await crypto.subtle.sign('HMAC', key, said('creel dashboard page'))));
}

export class Link {
  // on: {message(object), state(name, detail)} with the states connecting, online,
  // waiting (detail: milliseconds until the next attempt), locked.
  constructor(token, on) {
    this.token = token;
    this.on = on;
    this.failures = 0;
    this.online = false;
    this.accepted = false; // the token opened the page before
    this.socket = null;
    this.timer = this.late = 0;
    addEventListener('online', () => this.now());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.now(); });
  }

  // now tries at once instead of waiting for the pause to end.
  now() {
    if (this.timer) this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.on.state('connecting');
    const url = new URL('ws', document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = '';
    const nonce = canProve ? newNonce() : '';
    if (nonce) url.searchParams.set('nonce', nonce);
    const socket = new WebSocket(url);
    this.socket = socket;
    clearTimeout(this.late);
    this.late = setTimeout(() => socket.close(), patience);
    socket.onopen = () => { if (!nonce) this.enter({ token: this.token }); };
    socket.onmessage = nonce ? (e) => this.meet(nonce, e.data) : (e) => this.receive(e.data);
    socket.onclose = (e) => this.lost(e.code);
  }

  // meet judges the first message of whatever answers. It is a stranger until its
  // proof is right, and nothing else that it says is heard.
  async meet(nonce, data) {
    const socket = this.socket;
    socket.onmessage = null;
    let mac = null;
    try { mac = await answer(this.token, nonce, JSON.parse(data)); } catch { /* it is no proof */ }
    if (socket.readyState !== WebSocket.OPEN) return; // lost, and seen to
    if (mac) {
      socket.onmessage = (e) => this.receive(e.data);
      this.enter({ mac });
      return;
    }
    socket.onclose = null;
    socket.close();
    this.lost(badToken);
  }

  enter(proof) { this.socket.send(JSON.stringify({ type: 'auth', ...proof })); }

  receive(data) {
    const message = JSON.parse(data);
    if (message.type === 'hello') {
      clearTimeout(this.late);
      this.failures = 0;
      this.online = this.accepted = true;
      this.on.state('online');
    }
    this.on.message(message);
  }

  lost(code) {
    clearTimeout(this.late);
    this.online = false;
    if (code === badToken) {
      this.token = '';
      this.on.state('locked');
      return;
    }
    const pause = Math.min(longestPause, firstPause * 2 ** this.failures++) * (0.8 + 0.4 * Math.random());
    this.on.state('waiting', pause);
    this.timer = setTimeout(() => this.connect(), pause);
  }

  // send returns false when there is no connection; nothing is queued here.
  send(message) {
    if (!this.online || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
