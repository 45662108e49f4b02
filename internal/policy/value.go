package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a middleware's configuration and of a document.
const maxDepth = 32

// exact is the largest whole number that a float64 tells from its neighbours.
const exact = 1 << 53

// settleValue gives a value of a middleware's configuration, which its decoder
// chose the type of, the one type that stands for it: nil, bool, string, int64,
// uint64, float64, []any or map[string]any. What JSON cannot hold is an error.
func settleValue(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case nil, bool:
		return v, nil
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%q is not UTF-8", v)
		}
		return v, nil
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), nil
		}
		return v, nil
	case float64:
		return settleFloat(v)
	case json.Number:
		return settleNumber(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			settled, err := settleValue(item, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = settled
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			if !utf8.ValidString(key) {
				return nil, fmt.Errorf("key %q is not UTF-8", key)
			}
			settled, err := settleValue(item, depth+1)
			if err != nil {
				return nil, err
			}
			out[key] = settled
		}
		return out, nil
	}
	return nil, fmt.Errorf("holds a value of a kind that JSON has not (%T)", v)
}

func settleNumber(n json.Number) (any, error) {
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	var u uint64
	if json.Unmarshal([]byte(n), &u) == nil {
		return u, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("number %s is too large", n)
	}
	return settleFloat(f)
}

func settleFloat(f float64) (any, error) {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, fmt.Errorf("number %v is not finite", f)
	case f == math.Trunc(f) && math.Abs(f) <= exact:
		return int64(f), nil
	}
	return f, nil
}
