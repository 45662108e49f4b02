package inference_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/test/openaitest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-key-f3a9c1"

func TestCheckRoute(t *testing.T) {
	cases := []struct {
		mode    openaitest.Mode
		model   string
		want    inference.Class
		verdict health.Verdict
		status  int
		says    string
	}{
		{openaitest.Answer, openaitest.DefaultModel, inference.ClassOK, health.OK, 200, "test-model"},
		{openaitest.Answer, "unlisted", inference.ClassOK, health.OK, 200, "answers"},
		{openaitest.NoModels, "any", inference.ClassOK, health.OK, 200, "answers"},
		{openaitest.UnknownModel, "nope", inference.ClassModel, health.Failed, 404, "nope"},
		{openaitest.Unauthorized, "m", inference.ClassCredential, health.Failed, 401, "refused the key"},
		{openaitest.EchoKey, "m", inference.ClassCredential, health.Failed, 401, credential.Redacted},
		{openaitest.NotFound, "m", inference.ClassEndpoint, health.Failed, 404, "no such API"},
		{openaitest.RateLimited, "m", inference.ClassTransport, health.Unknown, 429, "limiting"},
		{openaitest.Broken, "m", inference.ClassTransport, health.Unknown, 500, "fault of its own"},
		{openaitest.HTML, "m", inference.ClassEndpoint, health.Failed, 200, "web page"},
		{openaitest.Redirect, "m", inference.ClassEndpoint, health.Failed, 307, "redirects"},
		{openaitest.Nothing, "m", inference.ClassTransport, health.Unknown, 0, "closed the connection"},
	}
	for _, c := range cases {
		t.Run(string(c.mode)+"/"+c.model, func(t *testing.T) {
			s := openaitest.Start(t)
			other := openaitest.Start(t)
			s.RedirectTo = other.URL + "/models"
			s.SetMode(c.mode)
			got := inference.CheckRoute(t.Context(), inference.Route{Provider: "custom", Type: "custom", BaseURL: s.URL + "/",
				Model: c.model, Key: credential.NewSecret(canary)})
			if got.Class != c.want || got.Verdict != c.verdict || got.Status != c.status || !strings.Contains(got.Message, c.says) {
				t.Errorf("got %+v\nwant class %s, verdict %s, status %d, message with %q", got, c.want, c.verdict, c.status, c.says)
			}
			if strings.Contains(fmt.Sprintf("%+v", got), canary) {
				t.Errorf("the check holds the key: %+v", got)
			}
			if len(s.Requests()) == 0 || !strings.Contains(s.Requests()[0].Header.Get("Authorization"), canary) {
				t.Error("the provider was not asked with the key, so that this proves nothing")
			}
			if len(other.Requests()) != 0 {
				t.Error("the redirect was followed with the credential")
			}
		})
	}
}

// A model list that anybody may read is no proof of the key.
func TestPublicModelListDoesNotProveTheKey(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/models" {
			_, _ = fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"detail":"Authorization failed"}`)
	}))
	defer s.Close()
	got := inference.CheckRoute(t.Context(), inference.Route{Provider: "custom", BaseURL: s.URL, Model: "m", Key: credential.NewSecret("wrong")})
	if got.Class != inference.ClassCredential || !strings.Contains(got.Message, "Authorization failed") {
		t.Fatalf("got %+v", got)
	}
	if got := inference.CheckRoute(t.Context(), inference.Route{Provider: "vllm", BaseURL: s.URL, Model: "m"}); got.Class != inference.ClassOK {
		t.Fatalf("without a key the list is enough, got %+v", got)
	}
}

func TestCheckRouteWithoutAsking(t *testing.T) {
	cases := []struct {
		name  string
		route inference.Route
		want  inference.Class
	}{
		{"none", inference.Route{Provider: "none"}, inference.ClassNone},
		{"nothing", inference.Route{}, inference.ClassNone},
		{"custom without address", inference.Route{Provider: "custom", Model: "m"}, inference.ClassEndpoint},
		{"unsupported", inference.Route{Provider: "anthropic", Model: "m"}, inference.ClassEndpoint},
		{"no model", inference.Route{Provider: "ollama"}, inference.ClassModel},
		{"model with spaces", inference.Route{Provider: "ollama", Model: "a b"}, inference.ClassModel},
		{"key missing", inference.Route{Provider: "openai", Model: "m"}, inference.ClassCredential},
		{"key of another provider", inference.Route{Provider: "build", Model: "m", Key: credential.NewSecret("sk-1")}, inference.ClassCredential},
		{"key with newline", inference.Route{Provider: "openai", Model: "m", Key: credential.NewSecret("sk-1\n")}, inference.ClassCredential},
		{"user info", inference.Route{Provider: "custom", Model: "m", BaseURL: "http://user:" + canary + "@127.0.0.1/v1"}, inference.ClassEndpoint},
		{"bad address", inference.Route{Provider: "custom", Model: "m", BaseURL: "http://" + canary + ":x/"}, inference.ClassEndpoint},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := inference.CheckRoute(t.Context(), c.route)
			if got.Class != c.want || got.Status != 0 || got.Message == "" {
				t.Errorf("got %+v, want class %s", got, c.want)
			}
			if strings.Contains(fmt.Sprintf("%+v", got), canary) {
				t.Errorf("the check shows a secret: %+v", got)
			}
		})
	}
}

func TestCheckRouteTransport(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := "http://" + l.Addr().String()
		_ = l.Close()
		got := inference.CheckRoute(t.Context(), inference.Route{Provider: "vllm", BaseURL: address, Model: "m"})
		if got.Class != inference.ClassTransport || !strings.Contains(got.Message, "refused") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is the point
		s.StartTLS()
		defer s.Close()
		got := inference.CheckRoute(t.Context(), inference.Route{Provider: "custom", BaseURL: s.URL, Model: "m"})
		if got.Class != inference.ClassEndpoint || !strings.Contains(got.Message, "certificate") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("https to http", func(t *testing.T) {
		s := openaitest.Start(t)
		got := inference.CheckRoute(t.Context(), inference.Route{Provider: "custom", BaseURL: strings.Replace(s.URL, "http:", "https:", 1), Model: "m"})
		if got.Class != inference.ClassEndpoint || !strings.Contains(got.Message, "TLS") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("never", func(t *testing.T) {
		t.Setenv(budget.Provider.Variable(), "100ms")
		s := openaitest.Start(t)
		s.SetMode(openaitest.Never)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := inference.CheckRoute(ctx, inference.Route{Provider: "custom", BaseURL: s.URL, Model: "m"})
		if got.Class != inference.ClassTransport || got.Verdict != health.Unknown || !strings.Contains(got.Message, `budget "provider"`) {
			t.Errorf("got %+v", got)
		}
		if ctx.Err() != nil {
			t.Error("the check ended with the caller's patience, not with its budget")
		}
	})
}
