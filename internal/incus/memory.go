package incus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/url"
	"sync"
)

// memory keeps what was made of the last answer to each question that is asked again and again: the same bytes mean
// the same, and are not decoded again. It never answers by itself: Incus is asked each time. The zero value is empty.
type memory struct {
	mu    sync.Mutex
	holds map[string]map[string]remembered // by Incus project and path; guarded by mu
}

// remembered is an answer's hash and what was made of it.
type remembered struct {
	sum   [sha256.Size]byte
	value any
}

func (m *memory) get(project, path string) remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holds[project][path]
}

func (m *memory) set(project, path string, r remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holds == nil {
		m.holds = map[string]map[string]remembered{}
	}
	if m.holds[project] == nil {
		m.holds[project] = map[string]remembered{}
	}
	m.holds[project][path] = r
}

// drop forgets a project that is gone.
func (m *memory) drop(project string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.holds, project)
}

// bodies are the buffers that answers are read into.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// recall is fetch for what a pass over a converged stack asks about a project, "" for the server: decode, a pure
// function of the metadata, is only called for an answer that differs from the last one. Its value is shared and must
// not be changed.
func recall[T any](ctx context.Context, c *Client, project, path string, query url.Values, decode func(*json.Decoder) (T, error)) (T, error) {
	var value T
	err := c.exchange(ctx, path, query, func(body io.Reader) (refusal string, err error) {
		whole, _ := bodies.Get().(*bytes.Buffer)
		defer bodies.Put(whole)
		whole.Reset()
		_, err = whole.ReadFrom(body)
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(whole.Bytes())
		last := c.memory.get(project, path)
		known, ok := last.value.(T)
		if ok && last.sum == sum {
			value = known
			return "", nil
		}
		refusal, err = answer(json.NewDecoder(whole), func(d *json.Decoder) (err error) {
			value, err = decode(d)
			return err
		})
		if err == nil && refusal == "" {
			c.memory.set(project, path, remembered{sum, value})
		}
		return refusal, err
	})
	return value, err
}

// object decodes one object.
func object[T any](d *json.Decoder) (one T, err error) {
	err = d.Decode(&one)
	return one, err
}
