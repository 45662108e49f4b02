package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// assetsMark stands in the page for the directory of its assets, which is
// relative so that the page also works below a path prefix. preloadMark stands for
// the modules that the page's script imports: named in the page they are fetched
// beside it, and not one after the other as each is read.
const (
	assetsMark  = "{{assets}}"
	preloadMark = "{{preload}}"
	mainScript  = "app.js"
)

// assets is the page and its files. The directory they are served from is named
// after their content, so that they can be cached for ever and never mix with
// those of another version.
type assets struct {
	files map[string][]byte // by name, e.g. "app.js"
	hash  string
	page  []byte
	etag  string
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string][]byte{}}
	sum := sha256.New()
	// ReadDir sorts by name, so the hash does not depend on chance.
	list, err := fs.ReadDir(embedded, "assets")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	for _, f := range list {
		content, err := embedded.ReadFile(path.Join("assets", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		fmt.Fprintf(sum, "%s %d\n", f.Name(), len(content))
		sum.Write(content)
		a.files[f.Name()] = content
	}
	a.hash = hex.EncodeToString(sum.Sum(nil))[:16]
	var preload strings.Builder
	for _, f := range list {
		if name := f.Name(); path.Ext(name) == ".js" && name != mainScript {
			fmt.Fprintf(&preload, "<link rel=\"modulepreload\" href=\"%s/%s\">\n", assetsMark, name)
		}
	}
	a.page = bytes.Replace(a.files["index.html"], []byte(preloadMark+"\n"), []byte(preload.String()), 1)
	a.page = bytes.ReplaceAll(a.page, []byte(assetsMark), []byte("assets/"+a.hash))
	a.etag = `"` + a.hash + `"`
	delete(a.files, "index.html")
	return a, nil
}

func (a *assets) servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.etag)
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(a.page)
}

func (a *assets) serveFile(w http.ResponseWriter, r *http.Request) {
	content, ok := a.files[r.PathValue("file")]
	if !ok || r.PathValue("hash") != a.hash {
		http.NotFound(w, r)
		return
	}
	// The types are written out: the system's table may know others.
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	w.Header().Set("Content-Type", types[path.Ext(r.PathValue("file"))])
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(content)
}
