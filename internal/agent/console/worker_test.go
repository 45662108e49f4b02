package console

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
)

// A browser that asks for any service worker's script is given one that goes away.
func TestServiceWorkersAreEvicted(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	for _, path := range []string{"/sw.js", "/", "/deep/worker.js?v=2"} {
		resp, body := i.get(path, "", http.Header{"Service-Worker": {"script"}})
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || body != eviction {
			t.Errorf("%s: status %d, %s: %.60q", path, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
	}
	if resp, _ := i.get("/sw.js", "", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("for anybody else: status %d", resp.StatusCode)
	}
}

// A page that was at the console's address before left a worker there that answers
// for it. It is gone once the browser has asked whether it is current.
func TestWorkerOfAnotherPageGoes(t *testing.T) {
	b := newBrowser(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	before := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sw.js" {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.WriteString(w, `addEventListener('install', () => skipWaiting()); addEventListener('activate', (e) => e.waitUntil(clients.claim()));
addEventListener('fetch', (e) => { if (e.request.mode === 'navigate') e.respondWith(new Response('<p id=evil>not the console</p>', {headers: {'Content-Type': 'text/html'}})); });`)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<script>navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready).then(() => document.body.append(Object.assign(document.createElement('p'), {id: 'there'})));</script><body></body>`)
	}))
	_ = before.Listener.Close()
	before.Listener = listener
	before.Start()
	url := "http://" + address + "/"
	b.run(chromedp.Navigate(url), chromedp.Query("#there"))
	before.Close()
	again, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	startOn(t, again, t.TempDir(), "http://127.0.0.1:1/v1")
	// The first navigation is the worker's; after it the browser looks for a newer one.
	b.run(chromedp.Navigate(url), chromedp.Query("#gate", chromedp.NodeVisible))
}
