// The connection to the agent: opens, shows the token, and comes back by itself
// with growing pauses after the forward dropped. It knows nothing of the page.

const firstPause = 300, longestPause = 10000, patience = 8000;
const badToken = 4401;

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
    this.timer = 0;
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
    const socket = new WebSocket(url);
    this.socket = socket;
    const late = setTimeout(() => socket.close(), patience);
    socket.onopen = () => socket.send(JSON.stringify({ type: 'auth', token: this.token }));
    socket.onmessage = (e) => {
      const message = JSON.parse(e.data);
      if (message.type === 'hello') {
        clearTimeout(late);
        this.failures = 0;
        this.online = this.accepted = true;
        this.on.state('online');
      }
      this.on.message(message);
    };
    socket.onclose = (e) => {
      clearTimeout(late);
      this.online = false;
      if (e.code === badToken) {
        this.on.state('locked');
        return;
      }
      const pause = Math.min(longestPause, firstPause * 2 ** this.failures++) * (0.8 + 0.4 * Math.random());
      this.on.state('waiting', pause);
      this.timer = setTimeout(() => this.connect(), pause);
    };
  }

  // send returns false when there is no connection; nothing is queued here.
  send(message) {
    if (!this.online || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
