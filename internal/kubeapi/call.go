// Package kubeapi is how Creel reaches a Kubernetes API: which cluster is meant,
// one client of the REST layer for it, calls within a budget, and errors that say
// in an advisory what was wrong. What the objects mean is known to those who ask.
// It logs nothing, and shows no value that could be a secret in an error.
package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/version"
)

// maxAnswer is far above the largest object that the API stores (1.5 MiB), and
// keeps whatever else answers from filling the memory.
const maxAnswer = 16 << 20

// retries is how often client-go asks again, a second later, when a connection
// breaks off or the API is too busy.
const retries = 2

// silence keeps client-go from writing to standard error on its own. It is the
// process that it concerns, so once is enough.
var silence = sync.OnceFunc(func() { klog.SetLogger(klog.Logger{}) })

// connect makes a client of the REST layer only. The typed clients of client-go
// link every kind of object that Kubernetes has: measured, that is 20 MB more
// executable and twice the start-up time of every command, for three kinds.
func connect(config *rest.Config) (rest.Interface, error) {
	silence()
	config = rest.CopyConfig(config)
	v1 := schema.GroupVersion{Version: "v1"}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, v1) // metav1.Status, which every error is
	config.GroupVersion = &v1
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.AcceptContentTypes, config.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	config.UserAgent = "creel/" + version.Version()
	// A handful of calls at once is what this package makes; the server protects
	// itself from more.
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return limited{next} })
	api, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, advisory.New("cluster-kubeconfig-invalid", "prepare to reach the cluster", Scrub(err))
	}
	return api, nil
}

// limited bounds the size of answers.
type limited struct{ next http.RoundTripper }

// endless marks the context of a request whose answer is read as it comes and kept
// nowhere.
type endless struct{}

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err == nil && answer.Body != nil && r.Context().Value(endless{}) == nil {
		answer.Body = &limitedBody{ReadCloser: answer.Body, left: maxAnswer}
	}
	return answer, err
}

type limitedBody struct {
	io.ReadCloser
	left int
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// Do makes one call within its budget and returns the answer's body. operation
// says what the call is for, in errors.
func (c *Client) Do(ctx context.Context, operation string, request *rest.Request) ([]byte, error) {
	ctx, cancel := budget.Context(ctx, budget.Cluster, operation)
	defer cancel()
	type answer struct {
		body []byte
		err  error
	}
	// client-go runs a kubeconfig's login program without the context, so only
	// somebody beside it notices that it never ends.
	answered := make(chan answer, 1)
	go func() {
		result := request.MaxRetries(retries).Do(ctx)
		body, _ := result.Raw()
		answered <- answer{body, result.Error()}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, c.options.aim(Fault(ctx, operation, a.err))
		}
		return a.body, nil
	case <-ctx.Done():
		return nil, c.options.aim(Fault(ctx, operation, ctx.Err()))
	}
}

// Stream makes one call whose answer has no end, such as a log that is followed. Only
// the beginning of the answer is within the call's budget; the rest is within ctx.
func (c *Client) Stream(ctx context.Context, operation string, request *rest.Request) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, endless{}, true))
	d := budget.Of(budget.Cluster)
	late := time.AfterFunc(d, func() { cancel(&budget.Expired{Budget: budget.Cluster, Limit: d, Operation: operation}) })
	body, err := request.MaxRetries(retries).Stream(ctx)
	if !late.Stop() && err == nil { // it is cut off already
		_ = body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		err = c.options.aim(Fault(ctx, operation, err))
		cancel(nil)
		return nil, err
	}
	return &stream{body, cancel}, nil
}

type stream struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (s *stream) Close() error {
	err := s.ReadCloser.Close()
	s.cancel(nil)
	return err
}

// Read is Do, and decodes the answer, which must be an object of a kind.
func (c *Client) Read(ctx context.Context, operation string, request *rest.Request, kind string, into any) error {
	body, err := c.Do(ctx, operation, request)
	if err != nil {
		return err
	}
	return c.options.aim(Decode(operation, body, kind, into))
}

// Decode reads an answer, which must be an object of a kind.
func Decode(operation string, body []byte, kind string, into any) error {
	var head metav1.TypeMeta
	err := json.Unmarshal(body, &head)
	if err == nil && head.Kind != kind {
		err = fmt.Errorf("it is a %.40q, not a %s", head.Kind, kind)
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return advisory.New("cluster-not-kubernetes", operation+": the answer is not what was asked for", Scrub(err))
	}
	return nil
}
