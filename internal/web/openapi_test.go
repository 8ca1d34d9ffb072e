package web_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"handover.io/internal/testkit"
)

// TestOpenAPI keeps schemas/openapi.json the document that is served.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.send("GET", "/openapi.json", nil, header("Authorization", "")).want(t, http.StatusOK)
	var indented bytes.Buffer
	if err := json.Indent(&indented, a.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	indented.WriteByte('\n')
	testkit.Golden(t, "../../../schemas/openapi.json", indented.Bytes())
}
