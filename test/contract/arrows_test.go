package contract_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "handover.io/"

// arrows is what each package may import of this module, tests apart. Arrows go down only: a use case knows neither the
// broker, nor HTTP, nor the other use cases; cmd/handover joins them. A package that isn't here may not exist.
var arrows = map[string][]string{
	"pkg/event":          {"internal/rawjson"},
	"pkg/publisher":      {"pkg/event"},
	"schemas":            {},
	"internal/handover":  {},
	"internal/rawjson":   {},
	"internal/postgres":  {},
	"internal/service":   {},
	"internal/bus":       {"pkg/event"},
	"internal/journal":   {"pkg/event", "internal/postgres"},
	"internal/roster":    {"pkg/event", "internal/handover", "internal/journal", "internal/postgres", "internal/rawjson"},
	"internal/operation": {"pkg/event", "internal/handover", "internal/journal", "internal/postgres", "internal/roster"},
	"internal/reassign":  {"pkg/event", "internal/handover", "internal/journal", "internal/postgres", "internal/roster", "internal/operation"},
	"internal/notify":    {"pkg/event", "internal/journal", "internal/postgres"},
	"internal/replay":    {"pkg/event", "internal/handover", "internal/journal", "internal/postgres", "internal/roster"},
	"internal/verify":    {"pkg/event", "internal/journal", "internal/postgres", "internal/roster"},
	"internal/web":       {"pkg/event", "schemas", "internal/handover", "internal/journal", "internal/notify", "internal/operation", "internal/postgres", "internal/replay", "internal/roster"},
	"internal/testkit":   {"*"},
	"cmd/handover":       {"*"},
	"test":               {"*"},
}

// owners are the only importers of a dependency that must stay exchangeable.
var owners = map[string][]string{
	// Upstream services can't import what is internal, so the publisher has a connection of its own.
	"github.com/nats-io/":            {"internal/bus", "pkg/publisher"},
	"github.com/danielgtaylor/huma":  {"internal/web"},
	"github.com/wneessen/go-mail":    {"internal/notify"},
	"github.com/spf13/cobra":         {"cmd/handover"},
	"github.com/pressly/goose":       {"internal/postgres"},
	"github.com/cloudevents/sdk-go":  {}, // tests hold our reader against it
	"github.com/sethvargo/go-envcon": {"internal/service"},
}

func TestArrowsGoDown(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && file != root || strings.HasPrefix(entry.Name(), ".") && file != root {
				return fs.SkipDir // another module, or hidden
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		in, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		checkImports(t, file, filepath.ToSlash(in))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, file, in string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	allowed, known := arrows[layer(in)]
	if !known {
		t.Errorf("%s: the package %s is not in the layout; give it its place in arrows", file, in)
		return
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if own, ours := strings.CutPrefix(imported, module); ours {
			if to := layer(own); to != layer(in) && !slices.Contains(allowed, "*") && !slices.Contains(allowed, to) {
				t.Errorf("%s: %s may not import %s", file, in, own)
			}
			continue
		}
		for prefix, importers := range owners {
			if strings.HasPrefix(imported, prefix) && !slices.Contains(importers, layer(in)) && layer(in) != "internal/testkit" {
				t.Errorf("%s: only %v may import %s", file, importers, imported)
			}
		}
	}
}

// layer is the entry of arrows that a package belongs to: itself, or the one that it stands under.
func layer(in string) string {
	for at := in; at != "."; at = path.Dir(at) {
		if _, known := arrows[at]; known {
			return at
		}
	}
	return in
}
