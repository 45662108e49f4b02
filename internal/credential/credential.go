// Package credential keeps secret values out of everything that is printed and
// encrypts them at rest.
package credential

import "log/slog"

// Redacted stands where a secret would be.
const Redacted = "REDACTED"

// Secret is a value that never shows itself: formatting, logging and JSON yield
// "REDACTED". Reveal is the only way to the value, so that its uses can be found.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(v string) Secret { return Secret{value: v} }

// Reveal returns the value.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.value == "" }

// String implements fmt.Stringer.
func (s Secret) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return Redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
