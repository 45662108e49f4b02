package console

import "net/http"

// eviction is the service worker that the console has: one that goes away, and has
// the pages that it answered for loaded anew, from here.
const eviction = `self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (e) => e.waitUntil((async () => {
  await self.registration.unregister();
  for (const page of await self.clients.matchAll({ type: 'window' })) await page.navigate(page.url).catch(() => {});
})()));
`

// evictWorkers answers a browser that asks whether a service worker is still
// current, which it does at its own time. The console has none: it is of a page that
// was at this address before, and would answer in the console's place.
func evictWorkers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Service-Worker") != "script" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(eviction))
	})
}
