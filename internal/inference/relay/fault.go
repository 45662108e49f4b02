package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"creel/internal/budget"
	"creel/internal/inference"
)

// SetCommand is what a user runs to set a model; errors about a missing one end
// in it.
const SetCommand = "creel inference set --provider PROVIDER --model MODEL"

// problem is the body of every error answer: {"error": {…}}, in the shape that
// clients of the OpenAI API read.
type problem struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code"`
	Param   string `json:"param,omitempty"`
	Status  int    `json:"status"`
}

func (p problem) body() map[string]problem {
	if p.Type == "" {
		p.Type = "relay_error"
	}
	return map[string]problem{"error": p}
}

func refuse(w http.ResponseWriter, p problem) { writeJSON(w, p.Status, p.body()) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

// routeProblem says why there is no route.
func routeProblem(err error) problem {
	if errors.Is(err, ErrNoRoute) {
		return problem{Status: http.StatusServiceUnavailable, Code: "no_model_configured", Message: "no model is set; on the host run: " + SetCommand}
	}
	return problem{Status: http.StatusServiceUnavailable, Code: "gateway_unreachable",
		Message: "the gateway has not yet said which model to use; on the host run: creel status"}
}

// sendProblem says why a request got no answer from the provider.
func sendProblem(cause error, err error) problem {
	if expired := (*budget.Expired)(nil); errors.As(cause, &expired) {
		return problem{Status: http.StatusGatewayTimeout, Type: "provider_error", Code: "provider_timeout", Message: expired.Error()}
	}
	_, message := inference.ClassifyError(err)
	return problem{Status: http.StatusBadGateway, Type: "provider_error", Code: "provider_unreachable", Message: message}
}

// answerProblem turns a provider's answer that is not one into a clear error.
// The provider's own code and type survive a refused request, because clients
// act on them (context_length_exceeded and the like).
func answerProblem(a inference.Answer, model string) problem {
	class, message := inference.Classify(a, model)
	p := problem{Status: a.Status, Type: "provider_error", Message: message}
	fault := a.Fault()
	switch {
	case a.Status < 400: // a web page or a redirect: no answer of an API
		p.Status, p.Code = http.StatusBadGateway, "provider_endpoint"
		if a.IsWebPage() {
			p.Code = "provider_web_page"
		}
	case a.Status == http.StatusTooManyRequests:
		p.Code = "provider_rate_limited"
	case a.IsWebPage():
		p.Code = "provider_web_page"
	case class == inference.ClassCredential:
		p.Code = "provider_credential"
		p.Message += "; on the host give another key with: " + SetCommand + " --credential-env VARIABLE"
	case class == inference.ClassTransport:
		p.Code = "provider_fault"
	case class == inference.ClassModel && a.Status == http.StatusNotFound:
		p.Code = "model_not_found"
	case a.Status == http.StatusNotFound:
		p.Code = "provider_not_found"
	default:
		p.Code, p.Param = "provider_refused", fault.Param
		if fault.Code != "" {
			p.Code = fault.Code
		}
		if fault.Type != "" {
			p.Type = fault.Type
		}
		if fault.Message != "" {
			p.Message = fmt.Sprintf("the provider refused the request (%d): %s", a.Status, fault.Message)
		}
	}
	return p
}
