package relay

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errNotObject = errors.New("the body is not a JSON object")

// setModel returns the JSON object body with its "model" replaced. Everything
// else keeps its value; the order of the members is not kept. A body that names a
// member twice keeps the last, as decoders do, so that no second "model" passes.
func setModel(body []byte, model string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, errNotObject
	}
	name, err := json.Marshal(model)
	if err != nil {
		return nil, err
	}
	members["model"] = name
	var out bytes.Buffer
	out.Grow(len(body) + len(name))
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}
