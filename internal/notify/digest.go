package notify

import (
	"cmp"
	"slices"
	"time"
)

// told is one move of a task with the truth about it at the time of reading.
type told struct {
	*move
	task     string
	revision int64
	// toldBefore, of a taken-back item: the last mail that mentioned the task said that it is the recipient's.
	toldBefore bool

	title, priority, url string
	due                  *time.Time
	open                 bool   // the task is there, and not closed
	holder               string // who has it now; empty: nobody
	// Names for ids; empty where the id is unknown.
	accountName, fromName, byName, roleName, holderName string
}

// digest is what a mail has to tell.
type digest struct {
	accounts []accountPart
	tasks    int // received and taken back, each once
	received int
	overdue  int
}

type accountPart struct {
	id, name  string
	received  []told // one per task: the last move, with the first from
	takenBack []told
}

// compose is the truth: of several moves of a task one line remains, or none. A task that the recipient has now and
// didn't have when the window opened was received; one that they were told of as theirs, and that somebody else has now,
// was taken back. Everything else is left out: it moved on, was closed, or is where it had been. It returns the indexes of
// the items left out; items must be of one recipient.
func compose(now time.Time, items []told) (d digest, leftOut map[int]bool) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(items[a].task, items[b].task), cmp.Compare(items[a].revision, items[b].revision))
	})
	parts := make(map[string]*accountPart)
	leftOut = make(map[int]bool)
	for start, end := 0, 0; start < len(order); start = end {
		for end = start + 1; end < len(order) && items[order[end]].task == items[order[start]].task; end++ {
		}
		of := order[start:end]
		line, gained, lost := collapse(items, of)
		if !gained && !lost {
			for _, i := range of {
				leftOut[i] = true
			}
			continue
		}
		part := parts[line.accountID]
		if part == nil {
			part = &accountPart{id: line.accountID, name: cmp.Or(line.accountName, line.accountID), received: make([]told, 0, min(len(items), tasksPerAccount))}
			parts[line.accountID] = part
		}
		d.tasks++
		if lost {
			part.takenBack = append(part.takenBack, line)
			continue
		}
		part.received = append(part.received, line)
		d.received++
		if line.due != nil && line.due.Before(now) {
			d.overdue++
		}
	}
	for _, part := range parts {
		slices.SortFunc(part.received, byUrgency)
		slices.SortFunc(part.takenBack, byUrgency)
		d.accounts = append(d.accounts, *part)
	}
	slices.SortFunc(d.accounts, func(a, b accountPart) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	return d, leftOut
}

// collapse is the one line of a task's items, given in order of revision: the last move to the recipient, from whom the
// first one took the task.
func collapse(items []told, of []int) (line told, gained, lost bool) {
	first, line := items[of[0]], items[of[len(of)-1]]
	had := first.kind == takenBack && first.toldBefore
	has := line.holder == line.recipient
	if had || !has || !line.open {
		return line, false, had && !has
	}
	var giver *told
	for _, i := range of {
		if items[i].kind == received {
			if giver == nil {
				giver = &items[i]
			}
			line = items[i]
		}
	}
	if giver == nil {
		return line, false, false
	}
	if giver.move != line.move {
		moved := *line.move
		moved.from, line.fromName, line.move = giver.from, giver.fromName, &moved
	}
	return line, true, false
}

// byUrgency puts the longest overdue first, then what is due next, then what is never due.
func byUrgency(a, b told) int {
	switch {
	case a.due == nil && b.due != nil:
		return 1
	case a.due != nil && b.due == nil:
		return -1
	case a.due != nil && !a.due.Equal(*b.due):
		return a.due.Compare(*b.due)
	}
	return cmp.Or(cmp.Compare(a.title, b.title), cmp.Compare(a.task, b.task))
}
