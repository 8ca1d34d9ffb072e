package replay

import "maps"

// Counts are what a replay comes to, foreseen or done.
type Counts struct {
	Messages int `json:"messages"` // selected; of the database, changes that are recorded
	Known    int `json:"known"`    // of these, those whose effect has been had
	Missing  int `json:"missing"`  // not recorded: foreseen, to be; done, recorded now
	// Dead letters that are new, by reason; and how many there were before, which stay as they are.
	DeadLetters map[string]int `json:"dead_letters"`
	DeadAlready int            `json:"dead_letters_already"`
	TasksMoved  int            `json:"tasks_moved"`
	// Tasks whose announced moves the database had forgotten, so that their revisions had gone back.
	Restored int `json:"revisions_restored,omitempty"`
	// Of Missing and DeadLetters, what came after the cursor: going on from there, it comes again as known.
	Recent *Recent `json:"after_cursor,omitempty"`
	// Of the database: accounts folded again, and those of them that differed.
	Accounts int `json:"accounts,omitempty"`
	Differed int `json:"accounts_differed,omitempty"`
}

// Recent is what a run that is cut off has done past its cursor.
type Recent struct {
	Recorded int `json:"recorded"`
	Buried   int `json:"buried"`
}

// NewDeadLetters is the sum over all reasons.
func (c Counts) NewDeadLetters() int {
	n := 0
	for _, of := range c.DeadLetters {
		n += of
	}
	return n
}

func (c Counts) plus(o Counts) Counts {
	sum := map[string]int{}
	for _, m := range []map[string]int{c.DeadLetters, o.DeadLetters} {
		for reason, n := range m {
			sum[reason] += n
		}
	}
	c.Messages, c.Known, c.Missing, c.DeadAlready, c.TasksMoved = c.Messages+o.Messages, c.Known+o.Known, c.Missing+o.Missing, c.DeadAlready+o.DeadAlready, c.TasksMoved+o.TasksMoved
	c.Restored += o.Restored
	c.Accounts, c.Differed, c.DeadLetters = c.Accounts+o.Accounts, c.Differed+o.Differed, sum
	return c
}

func (c Counts) clone() Counts {
	c.DeadLetters = maps.Clone(c.DeadLetters)
	if c.Recent != nil {
		recent := *c.Recent
		c.Recent = &recent
	}
	return c
}
