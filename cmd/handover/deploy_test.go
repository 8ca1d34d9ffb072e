package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/internal/operation"
	"handover.io/internal/service"
	"handover.io/internal/testkit"
)

// metrics are the labels of each metric that a process with all parts exposes, by its name.
type metrics map[string][]string

var described = regexp.MustCompile(`fqName: "([^"]*)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// exposed makes all parts of a process, without the servers that they would need to do anything, and asks what they count.
func exposed(t *testing.T) metrics {
	t.Helper()
	health := parts.NewWatch()
	log := testkit.Logger(t)
	p := &process{
		config: service.Config{DataDir: t.TempDir(), HTTPAddr: "127.0.0.1:0", NoticeWindow: time.Minute}, log: log, health: health,
		service: service.New(log), databaseURL: "postgres://x@127.0.0.1:1/x", natsURL: "nats://127.0.0.1:1", registry: service.Metrics(),
	}
	p.registry.MustRegister(health)
	t.Cleanup(func() {
		if err := p.service.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.connect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	operations := operation.New(p.pool, p.relay.Offer, log, p.registry)
	if err := p.serve(operations); err != nil {
		t.Fatal(err)
	}
	if err := p.watchStreams(ended); err == nil {
		t.Fatal("there is a database")
	}
	if err := p.notify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.move(t.Context(), operations); err != nil {
		t.Fatal(err)
	}
	out := metrics{"up": nil}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		p.registry.Describe(descriptions)
		p.standing().Describe(descriptions)
	}()
	for d := range descriptions {
		found := described.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("what is %s", d)
		}
		labels := []string{"instance", "job", "le"} // of the scrape, and of histograms
		for _, constant := range strings.Split(found[2], ",") {
			labels = append(labels, strings.Split(constant, "=")[0])
		}
		out[found[1]] = append(append(out[found[1]], labels...), strings.Split(found[3], ",")...)
	}
	return out
}

// labels are those of a metric, or of the histogram that it is a part of.
func (m metrics) labels(name string) ([]string, bool) {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, suffix); cut {
			if labels, known := m[base]; known {
				return labels, true
			}
		}
	}
	return nil, false
}

var (
	token    = regexp.MustCompile(`"[^"]*"|\$?[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|[0-9.]+[a-z]*|[=!]~|[=!<>]=|\S`)
	word     = regexp.MustCompile(`^[a-zA-Z_:]`)
	language = strings.Fields("sum max min avg count rate increase changes absent histogram_quantile by without and or unless time clamp_min")
	matchers = []string{"=", "!=", "=~", "!~"}
)

// check holds every name of an expression against what there is, and returns the labels that its metrics have.
func (m metrics) check(expression string) (labels []string, err error) {
	tokens := token.FindAllString(expression, -1)
	var open []string
	var grouped []string // labels of by and without
	last := ""           // metric
	for i, t := range tokens {
		switch {
		case t == "(" || t == "{":
			open = append(open, t)
			if t == "(" && i > 0 && (tokens[i-1] == "by" || tokens[i-1] == "without") {
				open[len(open)-1] = "by"
			}
		case t == ")" || t == "}":
			if len(open) == 0 || (t == "}") != (open[len(open)-1] == "{") {
				return nil, fmt.Errorf("%q closes nothing", t)
			}
			open = open[:len(open)-1]
		case len(open) > 0 && open[len(open)-1] == "by" && word.MatchString(t):
			grouped = append(grouped, t)
		case len(open) > 0 && open[len(open)-1] == "{" && word.MatchString(t):
			if has, _ := m.labels(last); !slices.Contains(has, t) {
				return nil, fmt.Errorf("%s has no label %s", last, t)
			}
			if i+2 >= len(tokens) || !slices.Contains(matchers, tokens[i+1]) || !strings.HasPrefix(tokens[i+2], `"`) {
				return nil, fmt.Errorf("label %s of %s is matched by nothing", t, last)
			}
		case word.MatchString(t) && !slices.Contains(language, t):
			has, known := m.labels(t)
			if !known {
				return nil, fmt.Errorf("there is no metric %s", t)
			}
			last, labels = t, append(labels, has...)
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("%q isn't closed", open[0])
	}
	if last == "" {
		return nil, fmt.Errorf("it is about no metric")
	}
	for _, g := range grouped {
		if !slices.Contains(labels, g) {
			return nil, fmt.Errorf("no metric of it has the label %s", g)
		}
	}
	if len(grouped) > 0 {
		return grouped, nil
	}
	return labels, nil
}

var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors are those that a Markdown file's headings get.
func anchors(t *testing.T, file string) (anchors []string, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if heading, is := strings.CutPrefix(line, "## "); is {
			anchor := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			anchors = append(anchors, "#"+strings.ReplaceAll(anchor, " ", "-"))
		}
	}
	return anchors, string(b)
}

var shownLabels = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlertsAreOfWhatThereIs(t *testing.T) {
	t.Parallel()
	all := exposed(t)
	deploy := filepath.Join("..", "..", "deploy")
	sections, runbook := anchors(t, filepath.Join(deploy, "RUNBOOK.md"))
	text, err := os.ReadFile(filepath.Join(deploy, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr         string
				For                 string
				Labels, Annotations map[string]string
			}
		}
	}
	in := yaml.NewDecoder(strings.NewReader(string(text)))
	in.KnownFields(true)
	if err := in.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	alerts := map[string]bool{}
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			if alerts[r.Alert] {
				t.Errorf("%s: there are two", r.Alert)
			}
			alerts[r.Alert] = true
			labels, err := all.check(r.Expr)
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			for _, label := range shownLabels.FindAllStringSubmatch(r.Annotations["summary"], -1) {
				if !slices.Contains(labels, label[1]) {
					t.Errorf("%s: its summary shows the label %s, which it doesn't have", r.Alert, label[1])
				}
			}
			if r.For != "" {
				if _, err := time.ParseDuration(r.For); err != nil {
					t.Errorf("%s: for: %v", r.Alert, err)
				}
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: severity is %q", r.Alert, r.Labels["severity"])
			}
			anchor, found := strings.CutPrefix(r.Annotations["runbook"], "RUNBOOK.md")
			if !found || !slices.Contains(sections, anchor) || r.Annotations["summary"] == "" {
				t.Errorf("%s: runbook is %q; the sections are %v", r.Alert, r.Annotations["runbook"], sections)
			}
			if !strings.Contains(runbook, "| "+r.Alert+" |") || !strings.Contains(runbook, "("+anchor+") |") {
				t.Errorf("%s: the section Alerts of the runbook has no line that says so", r.Alert)
			}
		}
	}
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
	for _, name := range regexp.MustCompile(`\bHandover[A-Z]\w+`).FindAllString(runbook, -1) {
		if !alerts[name] {
			t.Errorf("the runbook speaks of %s, which is no alert", name)
		}
	}
}

func TestDashboardShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	all := exposed(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID    string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids, rows := map[int]bool{}, 0
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q has no id, title or place of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows++
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			labels, err := all.check(target.Expr)
			if err != nil {
				t.Errorf("panel %q: %v", p.Title, err)
			}
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, label[1]) {
					t.Errorf("panel %q: its legend shows the label %s, which it doesn't have", p.Title, label[1])
				}
			}
		}
	}
	if rows < 6 || dashboard.UID == "" {
		t.Errorf("%d rows, uid %q", rows, dashboard.UID)
	}
}

// TestCheckRefuses: the check of expressions itself must be able to fail.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	all := metrics{"handover_waiting": {"part"}, "handover_handle_seconds": {"consumer", "le"}}
	for expression, want := range map[string]string{
		`max by (part) (handover_waiting{part=~"a|b"}) > 5`:                                    "",
		`histogram_quantile(0.9, sum by (le) (rate(handover_handle_seconds_bucket[5m]))) > 1d`: "",
		`handover_wait > 5`:                        "there is no metric handover_wait",
		`handover_waiting{parts="a"} > 5`:          "handover_waiting has no label parts",
		`handover_waiting{part} > 5`:               "label part of handover_waiting is matched by nothing",
		`max by (consumer) (handover_waiting) > 5`: "no metric of it has the label consumer",
		`max(handover_waiting > 5`:                 `"(" isn't closed`,
		`max handover_waiting) > 5`:                `")" closes nothing`,
		`maximum(handover_waiting) > 5`:            "there is no metric maximum",
		`1 > 5`:                                    "it is about no metric",
	} {
		said := ""
		if _, err := all.check(expression); err != nil {
			said = err.Error()
		}
		if said != want {
			t.Errorf("%s: %q, want %q", expression, said, want)
		}
	}
}
