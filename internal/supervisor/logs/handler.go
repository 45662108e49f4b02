package logs

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Logger is a logger whose records go to w and, as lines of the source
// "supervisor", into the ring.
func (l *Log) Logger(w io.Writer) *slog.Logger {
	buffer := &bytes.Buffer{}
	// The ring's lines carry time and level of their own.
	text := slog.NewTextHandler(buffer, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(&handler{file: slog.NewTextHandler(w, nil), text: text, shared: &shared{log: l, buffer: buffer}})
}

type shared struct {
	mu     sync.Mutex
	log    *Log
	buffer *bytes.Buffer // what text writes to
}

type handler struct {
	file, text slog.Handler
	*shared
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	h.buffer.Reset()
	err := h.text.Handle(ctx, r)
	line := strings.TrimSpace(h.buffer.String())
	h.mu.Unlock()
	if err != nil {
		return err
	}
	h.log.Add(Supervisor, strings.ToLower(r.Level.String()), line)
	return h.file.Handle(ctx, r)
}

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	return &handler{file: h.file.WithAttrs(as), text: h.text.WithAttrs(as), shared: h.shared}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{file: h.file.WithGroup(name), text: h.text.WithGroup(name), shared: h.shared}
}
