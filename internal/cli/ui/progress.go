package ui

import (
	"creel/internal/credential"
	"creel/internal/printable"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
)

const (
	// heartbeatEvery is how long a wait may stay silent where lines cannot be
	// rewritten.
	heartbeatEvery = 5 * time.Second
	frameEvery     = 120 * time.Millisecond
)

// Progress shows long work: step headings, what is being waited for, and how
// each step ended. On a smart terminal the current message is one line that is
// rewritten with a spinner and the elapsed time; elsewhere every message is a
// line of its own and a heartbeat follows every five seconds.
type Progress struct {
	w    io.Writer
	term Terminal

	mu      sync.Mutex
	message string    // what is being waited for; empty: nothing
	since   time.Time // when the work began
	frame   int
	drawn   bool // a live line is on the screen
	stop    chan struct{}
	done    chan struct{}
}

// NewProgress writes to Err.
func NewProgress(s Streams) *Progress { return &Progress{w: s.Err, term: s.ErrTerminal} }

// Step prints the heading "[n/of] title".
func (p *Progress) Step(n, of int, title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, p.term.Bold(fmt.Sprintf("[%d/%d] %s", n, of, printable.Text(title))))
}

// Line prints one line of talk without ending the wait.
func (p *Progress) Line(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, "  "+credential.Redact(message))
	p.draw()
}

// Wait says what is being waited for. The first call starts the clock and the
// heartbeat; later ones replace the message.
func (p *Progress) Wait(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	message = credential.Redact(message)
	if p.stop == nil {
		p.since = time.Now()
		p.stop, p.done = make(chan struct{}), make(chan struct{})
		go p.beat(p.stop, p.done)
	}
	if message == p.message {
		return
	}
	p.message = message
	if p.term.Smart {
		p.draw()
		return
	}
	fmt.Fprintln(p.w, "  "+p.ellipsis(message))
}

// Report takes what contracts report: each message is waited for, and a warning stays.
func (p *Progress) Report() func(string) {
	return func(message string) {
		if strings.HasPrefix(message, "warning: ") {
			p.Line(message)
			return
		}
		p.Wait(message)
	}
}

// End replaces the live line by how the work ended. A step without a wait has no
// duration.
func (p *Progress) End(m Mark, message string) {
	elapsed, waited := p.halt()
	p.mu.Lock()
	defer p.mu.Unlock()
	line := "  " + p.term.Verdict(m)
	if m == MarkOK || m == MarkInfo {
		line = "  " + p.term.Glyph(m)
	}
	if message != "" {
		line += " " + credential.Redact(message)
	}
	if waited && elapsed >= time.Second {
		line += p.term.Faint(" (" + seconds(elapsed) + ")")
	}
	fmt.Fprintln(p.w, line)
}

// Close ends a wait without a word. Closing twice is fine.
func (p *Progress) Close() { p.halt() }

// halt ends the heartbeat, takes the live line away and returns how long it was.
func (p *Progress) halt() (time.Duration, bool) {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.stop, p.done = nil, nil
	p.mu.Unlock()
	if stop == nil {
		return 0, false
	}
	close(stop)
	<-done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.message = ""
	return time.Since(p.since), true
}

func (p *Progress) beat(stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	every := heartbeatEvery
	if p.term.Smart {
		every = frameEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			if p.term.Smart {
				p.frame++
				p.draw()
			} else {
				fmt.Fprintf(p.w, "  still: %s (%s)\n", p.message, seconds(time.Since(p.since)))
			}
			p.mu.Unlock()
		}
	}
}

var (
	frames      = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	asciiFrames = []string{"|", "/", "-", `\`}
)

// draw rewrites the live line; the caller holds the lock.
func (p *Progress) draw() {
	if !p.term.Smart || p.message == "" {
		return
	}
	sign := asciiFrames
	if p.term.UTF8 {
		sign = frames
	}
	line := sign[p.frame%len(sign)] + " " + p.message
	if elapsed := time.Since(p.since); elapsed >= time.Second {
		line += " (" + seconds(elapsed) + ")"
	}
	if p.term.Width > 3 {
		line = ansi.Truncate(line, p.term.Width-3, p.ellipsis(""))
	}
	fmt.Fprint(p.w, "\r\x1b[K  "+line)
	p.drawn = true
}

// erase removes the live line; the caller holds the lock.
func (p *Progress) erase() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

func (p *Progress) ellipsis(message string) string {
	if p.term.UTF8 {
		return message + "…"
	}
	return message + "..."
}

// seconds is a duration as a person reads it: "3 s", "1 min 20 s".
func seconds(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60), " 0 s")
}
