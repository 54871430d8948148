package incustest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// maxBody is Incus's limit of a JSON request.
const maxBody = 1 << 20

// reply writes an answer.
type reply func(http.ResponseWriter)

func ok(metadata any) reply { return okHeader(metadata, nil) }

// okETag answers with the hash of what an ETag covers.
func okETag(metadata, covered any) reply {
	return okHeader(metadata, http.Header{"Etag": {etag(covered)}})
}

func okHeader(metadata any, h http.Header) reply {
	return func(w http.ResponseWriter) {
		maps.Copy(w.Header(), h)
		writeJSON(w, http.StatusOK, map[string]any{
			"type": "sync", "status": "Success", "status_code": 200, "operation": "", "error_code": 0, "error": "", "metadata": metadata,
		})
	}
}

func fail(status int, format string, args ...any) reply {
	return func(w http.ResponseWriter) {
		writeJSON(w, status, map[string]any{
			"type": "error", "status": "", "status_code": 0, "operation": "", "error_code": status, "error": fmt.Sprintf(format, args...), "metadata": nil,
		})
	}
}

// failed answers with the status of a StatusError, else 500, as Incus's SmartError does.
func failed(err error) reply {
	status, found := api.StatusErrorMatch(err)
	if found {
		return fail(status, "%s", err)
	}
	return fail(http.StatusInternalServerError, "%s", err)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func etag(covered any) string {
	b, err := json.Marshal(covered)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(append(b, '\n')))
}

// matches checks If-Match; an empty one matches all.
func matches(r *http.Request, covered any) error {
	want := strings.Trim(r.Header.Get("If-Match"), `"`)
	have := etag(covered)
	if want != "" && want != have {
		return api.StatusErrorf(http.StatusPreconditionFailed, "ETag doesn't match: %s vs %s", have, want)
	}
	return nil
}

// body decodes a JSON request.
func body(r *http.Request, into any) error {
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(into)
	if err != nil {
		return api.StatusErrorf(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// says makes an error of Incus's words, which begin with a capital.
func says(format string, args ...any) error { return fmt.Errorf(format, args...) }

func notFound(what string) error { return api.StatusErrorf(http.StatusNotFound, "%s not found", what) }

func badRequest(format string, args ...any) error {
	return api.StatusErrorf(http.StatusBadRequest, format, args...)
}

// project returns the project a request is about.
func project(r *http.Request) string {
	p := r.URL.Query().Get("project")
	if p == "" {
		return "default"
	}
	return p
}
