package console

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// What somebody reads who opened the page by a name that is not declared. It names
// nothing of this machine: a website whose name was pointed here can read it.
const (
	wrongName    = "This dashboard is not opened by the name in the address"
	wrongNameDo  = `Open the address that "creel dashboard" prints. If the name is right, as behind a reverse proxy or in your own network, declare it on the machine where Creel runs:`
	wrongNameRun = "creel dashboard SANDBOX --public-url URL"
)

const refusalStyle = `:root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.55 system-ui,sans-serif;background:light-dark(#f6f5f1,#0e1517);color:light-dark(#182224,#e8efee)}` +
	`main{box-sizing:border-box;max-width:34rem;margin:1rem;padding:2rem;border:1px solid light-dark(#d8d6cd,#2b383a);border-radius:18px;background:light-dark(#fffefb,#172022)}h1{margin:0 0 .5rem;font-size:1.2rem}` +
	`p{margin:0 0 1rem}code{display:block;padding:.7rem 1rem;border-radius:10px;background:light-dark(#f6f5f1,#0e1517);font:.85rem/1.5 ui-monospace,monospace;overflow-wrap:anywhere}`

// refuse answers a request under a name that is not the dashboard's: a page for a
// browser, the same words for a program.
func refuse(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, wrongName+".\n\n"+wrongNameDo+"\n\n    "+wrongNameRun, http.StatusForbidden)
		return
	}
	style := sha256.Sum256([]byte(refusalStyle))
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(style[:])+"'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Creel console</title><style>`+
		refusalStyle+`</style><main><h1>`+wrongName+`</h1><p>`+wrongNameDo+`</p><code>`+wrongNameRun+`</code></main></html>`)
}
