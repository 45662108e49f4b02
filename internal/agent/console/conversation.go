package console

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// modelCheck is how often the relay is asked for its model while a page is open,
// so that a model set from outside shows up by itself.
const modelCheck = 5 * time.Second

// answering is the exchange that the model is working on.
type answering struct {
	id      string
	cancel  context.CancelFunc
	text    strings.Builder
	stopped bool // by the user
	dropped bool // the conversation was cleared meanwhile
}

// conversation is the one conversation of this sandbox, whichever page it is
// seen in. An answer goes on when its page is closed.
type conversation struct {
	ctx   context.Context
	relay *relay
	log   io.Writer
	set   settings
	kick  chan struct{} // ask for the model now
	work  sync.WaitGroup

	mu       sync.Mutex
	entries  []entry
	file     *historyFile // nil: memory only
	current  *answering
	viewers  map[*viewer]bool
	model    string
	modelErr *fault
}

// newConversation reads the history and begins to look after the model. It ends
// with ctx; wait returns when everything has ended.
func newConversation(ctx context.Context, s settings, log io.Writer) *conversation {
	c := &conversation{
		ctx: ctx, log: log, set: s, relay: newRelay(s.relayURL, s.relayToken),
		kick: make(chan struct{}, 1), viewers: map[*viewer]bool{},
	}
	if s.historyPath != "" {
		file := &historyFile{path: s.historyPath}
		err := file.prepare()
		if err == nil {
			var skipped int
			c.entries, skipped, err = file.load()
			if skipped > 0 {
				fmt.Fprintf(log, "console: %d unreadable lines of the history are left out\n", skipped)
			}
		}
		if err == nil {
			c.file = file
		} else {
			fmt.Fprintf(log, "console: the conversation is kept in memory only: %v\n", err)
		}
	}
	c.work.Go(c.watchModel)
	c.askModel()
	return c
}

func (c *conversation) wait() {
	c.work.Wait()
	c.relay.close()
}

func (c *conversation) askModel() {
	select {
	case c.kick <- struct{}{}:
	default: // the question is already waiting
	}
}

func (c *conversation) watchModel() {
	tick := time.NewTicker(modelCheck)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
			c.mu.Lock()
			watched := len(c.viewers) > 0
			c.mu.Unlock()
			if !watched {
				continue
			}
		case <-c.kick:
		}
		model, problem := c.relay.model(c.ctx)
		if c.ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.setModel(model, problem)
		c.mu.Unlock()
	}
}

// setModel tells every page when something changed. The caller holds mu.
func (c *conversation) setModel(model string, problem *fault) {
	same := model == c.model && (problem == nil) == (c.modelErr == nil) && (problem == nil || *problem == *c.modelErr)
	if same {
		return
	}
	c.model, c.modelErr = model, problem
	e := event{Type: "model", Model: model}
	if problem != nil {
		e.Code, e.Detail = problem.Code, problem.Message
	}
	c.tell(e)
}

// tell sends to every page. The caller holds mu.
func (c *conversation) tell(e event) {
	for v := range c.viewers {
		if !v.put(e) {
			delete(c.viewers, v)
		}
	}
}

// greet makes the hello, and enrols the viewer in the same instant so that it
// misses nothing and gets nothing twice. v is nil for a probe.
func (c *conversation) greet(v *viewer) hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := hello{
		Type: "hello", Version: appVersion(), Sandbox: c.set.sandbox, Model: c.model, ModelError: c.modelErr,
		Tier: c.set.confinement.Tier, Reason: c.set.confinement.Reason, Protections: c.set.confinement.Protections,
		PolicyHash: c.set.policyHash, Saved: c.file != nil,
	}
	if v == nil {
		return h
	}
	c.viewers[v] = true
	h.History = append([]entry{}, c.entries...)
	if c.current != nil {
		h.Pending = &event{Type: "delta", ID: c.current.id, Text: c.current.text.String()}
	}
	c.askModel()
	return h
}

func (c *conversation) leave(v *viewer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.viewers, v)
}

// ask adds a question and begins to answer it.
func (c *conversation) ask(r request) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return &fault{"stopping", "The console is stopping."}
	}
	if c.current != nil {
		return &fault{"busy", "An answer is still being written. Stop it first."}
	}
	for _, e := range c.entries {
		// A page that lost its connection in the middle of sending sends again.
		if e.ID == r.ID {
			return nil
		}
	}
	if r.Replaces != "" {
		c.remove(r.Replaces)
	}
	now := time.Now().UTC()
	c.add(entry{Role: roleUser, ID: r.ID, Text: strings.ToValidUTF8(r.Text, "\uFFFD"), At: now})
	c.tell(event{Type: "user", ID: r.ID, Text: r.Text, At: now})
	ctx, cancel := context.WithCancel(c.ctx)
	c.current = &answering{id: r.ID, cancel: cancel}
	work, model, turns := c.current, c.model, turns(c.set, c.entries)
	c.work.Go(func() {
		defer cancel()
		a, problem := c.relay.chat(ctx, model, turns, func(text string) { c.grow(work, text) })
		c.finish(work, a, problem)
	})
	return nil
}

func (c *conversation) grow(work *answering, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if work.dropped || work.stopped {
		return
	}
	work.text.WriteString(text)
	c.tell(event{Type: "delta", ID: work.id, Text: text})
}

func (c *conversation) finish(work *answering, a answered, problem *fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == work {
		c.current = nil
	}
	if work.dropped {
		return
	}
	e := entry{Role: roleAssistant, ID: work.id, Text: work.text.String(), At: time.Now().UTC(), Model: a.model, State: a.state}
	switch {
	case work.stopped:
		e.State = stateStopped
	case c.ctx.Err() != nil:
		e.State, e.Error = stateFailed, &fault{codeInterrupted, "The console was stopped while the answer was being written."}
	case problem != nil:
		e.State, e.Error = stateFailed, problem
	}
	c.add(e)
	if e.Error != nil {
		c.tell(event{Type: "error", ID: e.ID, Code: e.Error.Code, Detail: e.Error.Message, At: e.At})
	} else {
		c.tell(event{Type: "done", ID: e.ID, State: e.State, Model: e.Model, At: e.At})
	}
	// Whatever went wrong, or another model than the known one that answered,
	// says that what is known of the model may be old.
	if problem != nil || a.model != c.model {
		c.askModel()
	}
}

// stop ends the answer that is being written; what came so far stays.
func (c *conversation) stop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.id == id {
		c.current.stopped = true
		c.current.cancel()
	}
}

// clear forgets the conversation.
func (c *conversation) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.dropped = true
		c.current.cancel()
		c.current = nil
	}
	c.entries = nil
	c.rewrite()
	c.tell(event{Type: "cleared"})
}

// add keeps an entry, in memory and on disk. The caller holds mu.
func (c *conversation) add(e entry) {
	c.entries = bound(append(c.entries, e))
	if c.file == nil {
		return
	}
	if err := c.file.add(e, c.entries); err != nil {
		fmt.Fprintf(c.log, "console: keep conversation: %v\n", err)
	}
}

// remove takes an exchange out that did not end well. The caller holds mu.
func (c *conversation) remove(id string) {
	kept := make([]entry, 0, len(c.entries))
	bad := false
	for _, e := range c.entries {
		if e.ID != id {
			kept = append(kept, e)
		} else if e.State == stateFailed || e.State == stateStopped {
			bad = true
		}
	}
	if !bad {
		return
	}
	c.entries = kept
	c.rewrite()
	c.tell(event{Type: "removed", ID: id})
}

func (c *conversation) rewrite() {
	if c.file == nil {
		return
	}
	if err := c.file.replace(c.entries); err != nil {
		fmt.Fprintf(c.log, "console: keep conversation: %v\n", err)
	}
}
