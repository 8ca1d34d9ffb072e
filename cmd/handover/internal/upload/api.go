package upload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"handover.io/cmd/handover/internal/tabular"
)

// API is the HTTP API as a sender of rows sees it.
type API struct {
	URL, Token string
	Client     *http.Client
	DryRun     bool // imports only tell what they would do
}

// problem is a refusal of the API (RFC 9457), as far as it matters here.
type problem struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

func (p *problem) Error() string {
	s := p.Detail
	for i, e := range p.Errors {
		if i == 3 {
			break
		}
		s += "\n  " + e.Location + ": " + e.Message
	}
	return s
}

func (a API) post(ctx context.Context, path, media string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(a.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, &Fatal{err}
	}
	req.Header.Set("Authorization", "Bearer "+a.Token)
	req.Header.Set("Content-Type", media)
	resp, err := a.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w (is handover running there?)", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	p := &problem{Status: resp.StatusCode}
	if json.Unmarshal(text, p) != nil || p.Detail == "" {
		p.Detail = resp.Status
	}
	p.Status = resp.StatusCode
	if p.Status >= 500 || p.Status == http.StatusTooManyRequests || p.Status == http.StatusRequestTimeout {
		return nil, p
	}
	return nil, &Fatal{p}
}

// importLine is one line of the answer to an import.
type importLine struct {
	tabular.Problem
	Summary *struct {
		Created, Updated, Unchanged int
		TasksMoved                  *int `json:"tasks_moved"`
	} `json:"summary"`
	Aborted *problem `json:"aborted"`
}

// Import returns what sends chunks of users, accounts or tasks.
func (a API) Import(what string) Send {
	path := "/v1/imports/" + what
	if a.DryRun {
		path += "?dry_run=true"
	}
	return func(ctx context.Context, chunk Chunk) (Answer, error) {
		resp, err := a.post(ctx, path, "application/x-ndjson", chunk.Body)
		if err != nil {
			return Answer{}, err
		}
		defer resp.Body.Close()
		var answer Answer
		in := bufio.NewReader(resp.Body)
		for {
			text, err := in.ReadBytes('\n')
			if err != nil {
				return Answer{}, fmt.Errorf("the answer ended before it was complete: %w", err)
			}
			var line importLine
			if err := json.Unmarshal(text, &line); err != nil {
				return Answer{}, &Fatal{fmt.Errorf("the answer is not one of Handover's: %w", err)}
			}
			switch {
			case line.Summary != nil:
				answer.Created, answer.Updated, answer.Unchanged = line.Summary.Created, line.Summary.Updated, line.Summary.Unchanged
				answer.TasksMoved = line.Summary.TasksMoved
				return answer, nil
			case line.Aborted != nil:
				return Answer{}, line.Aborted
			case line.Line > 0 && line.Line <= len(chunk.Rows):
				row := chunk.Rows[line.Line-1]
				line.Line, line.ID = row.Line, row.ID
				answer.Refused = append(answer.Refused, line.Problem)
			}
		}
	}
}

var place = regexp.MustCompile(`^body\[(\d+)\]\.?(.*)$`)

// Events sends chunks of CloudEvents. The API takes a batch whole or not at all, so those that it names as refused are
// taken out, and the others are sent again.
func (a API) Events(ctx context.Context, chunk Chunk) (Answer, error) {
	var answer Answer
	for len(chunk.Rows) > 0 {
		body := []byte{'['}
		for i, line := range chunk.Lines() {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, line...)
		}
		resp, err := a.post(ctx, "/v1/events", "application/cloudevents-batch+json", append(body, ']'))
		if err == nil {
			_ = resp.Body.Close()
			answer.Created += len(chunk.Rows)
			return answer, nil
		}
		refused := refusedOf(err, chunk.Rows)
		if len(refused) == 0 {
			return Answer{}, err
		}
		answer.Refused = slices.AppendSeq(answer.Refused, maps.Values(refused))
		chunk = chunk.without(refused)
	}
	return answer, nil
}

// refusedOf are the rows that a refusal names, by where they stand in the batch.
func refusedOf(err error, rows []Row) map[int]tabular.Problem {
	var p *problem
	out := map[int]tabular.Problem{}
	if !errors.As(err, &p) {
		return out
	}
	for _, e := range p.Errors {
		m := place.FindStringSubmatch(e.Location)
		if m == nil {
			continue
		}
		if i, err := strconv.Atoi(m[1]); err == nil && i < len(rows) {
			if _, said := out[i]; !said {
				out[i] = tabular.Problem{Line: rows[i].Line, ID: rows[i].ID, Field: strings.TrimPrefix(m[2], "data."), Problem: e.Message}
			}
		}
	}
	return out
}
