package console

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"creel/internal/credential"
	"creel/test/openaitest"
)

const longAnswer = "Here is a small pool that stops when its context does. Three things matter:\n\n" +
	"1. **Nobody blocks for ever**: every send and receive also selects on `ctx.Done()`.\n2. The pool is *closed by its owner*, never by a worker.\n3. Errors come back in order:\n   - the first one cancels the rest,\n   - later ones are dropped.\n\n" +
	"```go\n// Run calls work for each job with at most n at a time.\nfunc Run(ctx context.Context, n int, jobs []Job) error {\n\tg, ctx := errgroup.WithContext(ctx)\n\tg.SetLimit(n)\n\tfor _, j := range jobs {\n\t\tg.Go(func() error { return j.Do(ctx, \"attempt\", 3) })\n\t}\n\treturn g.Wait()\n}\n```\n\n" +
	"### What it costs\n\n| workers | jobs | time |\n|---|---|---|\n| 1 | 1,000 | 9.8 s |\n| 4 | 1,000 | 2.5 s |\n| 16 | 1,000 | 0.7 s |\n\n" +
	"> Measure before you raise the limit: past the number of cores it mostly waits.\n\nThe details are in the [errgroup documentation](https://pkg.go.dev/golang.org/x/sync/errgroup)."

func shots(t *testing.T, prefix, theme string, size [2]int64) {
	model := openaitest.Start(t)
	model.SetModels("llama-3.3-70b-instruct")
	model.SetReply(func(string) []string { return strings.SplitAfter(longAnswer, " ") })
	i := start(t, t.TempDir(), model.URL)
	b := newBrowser(t)
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		t.Fatal(err)
	}
	b.run(chromedp.EmulateViewport(size[0], size[1]))
	shot := func(name string) {
		t.Helper()
		settled := `document.getAnimations().filter((a) => a.effect.getTiming().iterations !== Infinity).every((a) => a.playState === 'finished')`
		b.until(settled)
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(prefix+"-"+name+".png", png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.open(i.private())
	b.until(ready)
	shot("1-empty")
	b.run(b.typeIn("Write a small worker pool in Go with context cancellation, and say what it costs.\r"))
	b.until(`document.querySelector('.answer .after .note') !== null`)
	shot("2-answer")
	model.SetMode(openaitest.SlowStream)
	model.SetReply(func(string) []string { return []string{"Sure: the limit is a *semaphore*", " and"} })
	b.run(b.typeIn("And how does the limit work?\r"))
	b.until(`document.querySelector('.streaming .thinking') !== null`)
	shot("3-thinking")
	model.Release()
	b.until(`document.querySelector('.streaming .body').innerText.includes('semaphore')`)
	shot("4-streaming")
	b.run(b.click("#stop"))
	b.until(`document.querySelector('.streaming') === null`)
	model.SetMode(openaitest.UnknownModel)
	b.run(b.typeIn("Try once more\r"))
	b.until(`document.querySelector('.fault') !== null`)
	shot("5-error")
	b.run(b.click("#open-details"), chromedp.WaitVisible(chromedp.CSS("#details")))
	shot("6-details")
	b.run(chromedp.KeyEvent("\u001b"), b.click("#clear"), chromedp.WaitVisible(chromedp.CSS("#ask-clear")))
	shot("7-clear")
	b.open("about:blank")
	b.open(i.url("/#token=wrong"))
	b.until(`!document.querySelector('#gate').hidden`)
	shot("8-gate")

	none := start(t, t.TempDir(), relayWith(t, noModel), func(s *settings) { s.confinement = degraded })
	b.open("about:blank")
	b.open(none.private())
	b.until(`!document.querySelector('#no-model').hidden`)
	shot("9-no-model")
	none.stop()
	b.until(`!document.querySelector('#strip').hidden`)
	shot("10-lost")
	b.run(b.click("#open-details"), chromedp.WaitVisible(chromedp.CSS("#details")))
	shot("11-degraded")
	b.run(chromedp.KeyEvent("\u001b"))
	listener, err := net.Listen("tcp4", none.addr)
	if err != nil {
		t.Fatal(err)
	}
	startOn(t, listener, t.TempDir(), relayWith(t, noModel), func(s *settings) { s.token = credential.NewSecret("another") })
	b.until(`!document.querySelector('#gate').hidden`)
	shot("12-outdated")
	b.open("about:blank")
	b.open(strings.Replace(i.url("/"), "127.0.0.1", "evil.localhost", 1))
	shot("13-wrong-name")
}
