package roster

import (
	"net/mail"
	"net/url"
	"strings"
	"sync"
	"time"

	"handover.io/internal/handover"
	"handover.io/internal/rawjson"
)

// Limits of the rows, in characters.
const (
	maxName     = 500
	maxTitle    = 500
	maxEmail    = 320
	maxZone     = 64
	maxSource   = 64
	maxPriority = 40
	maxURL      = 2000
	maxRole     = 63
)

// DecodeUser reads one user as JSON: {"id", "name", "email", "time_zone", "status", "notices"}. The error is an [*Invalid].
func DecodeUser(row []byte) (UserSaid, error) {
	var u UserSaid
	problem := eachField("", row, func(f field) *Invalid {
		switch f.name {
		case "id":
			return f.id(&u.ID)
		case "name":
			return f.text(&u.Name, 1, maxName)
		case "email":
			return f.checked(&u.Email, maxEmail, "", checkEmail)
		case "time_zone":
			return f.checked(&u.TimeZone, maxZone, "UTC", checkZone)
		case "status":
			return f.choice(&u.Status, "active", "disabled", "deleted")
		case "notices":
			return f.boolean(&u.Notices, true)
		}
		return f.invalid("is no field of a user; the fields are id, name, email, time_zone, status, notices")
	})
	return u, orNil(problem)
}

// DecodeAccount reads one account as JSON: {"id", "name", "attributes", "roles"}. The error is an [*Invalid].
func DecodeAccount(row []byte) (AccountSaid, error) {
	var a AccountSaid
	problem := eachField("", row, func(f field) *Invalid {
		switch f.name {
		case "id":
			return f.id(&a.ID)
		case "name":
			return f.text(&a.Name, 1, maxName)
		case "attributes":
			return f.attributes(&a.Attributes)
		case "roles":
			return f.roles(&a.Roles)
		}
		return f.invalid("is no field of an account; the fields are id, name, attributes, roles")
	})
	return a, orNil(problem)
}

func (f field) roles(into *map[string]string) *Invalid {
	if f.raw[0] != '{' {
		return f.invalid(`must be an object, like {"success_manager": "u-1"}, not %s`, rawjson.Kind(f.raw))
	}
	*into = map[string]string{}
	return eachField(f.name, f.raw, func(owner field) *Invalid {
		role := owner.name
		owner.name = "roles." + role
		if wrong := checkRole(role); wrong != "" {
			return owner.invalid("%s", wrong)
		}
		var id Maybe[string]
		if problem := owner.reference(&id); problem != nil {
			return problem
		}
		(*into)[role] = id.Value
		return nil
	})
}

// DecodeTask reads one task as JSON: {"id", "account_id", "title", "assignee_id", "status", "source", "role", "priority",
// "url", "due_at", "created_at", "assigned_at"}. The error is an [*Invalid].
func DecodeTask(row []byte) (TaskSaid, error) {
	var t TaskSaid
	problem := eachField("", row, func(f field) *Invalid {
		switch f.name {
		case "id":
			return f.id(&t.ID)
		case "account_id":
			t.AccountID.Given = true
			return f.id(&t.AccountID.Value)
		case "title":
			return f.text(&t.Title, 1, maxTitle)
		case "assignee_id":
			return f.reference(&t.AssigneeID)
		case "status":
			return f.choice(&t.Status, "open", "in_progress", "completed", "cancelled")
		case "source":
			return f.checked(&t.Source, maxSource, handover.SourceManual, checkSource)
		case "role":
			return f.checked(&t.Role, maxRole, "", checkRole)
		case "priority":
			return f.text(&t.Priority, 0, maxPriority)
		case "url":
			return f.checked(&t.URL, maxURL, "", checkURL)
		case "due_at":
			return f.time(&t.DueAt)
		case "created_at":
			return f.time(&t.CreatedAt)
		case "assigned_at":
			return f.time(&t.AssignedAt)
		}
		return f.invalid("is no field of a task; the fields are id, account_id, title, assignee_id, status, source, role, priority, url, due_at, created_at, assigned_at")
	})
	if problem == nil && t.AssignedAt.Value != nil && !t.AssigneeID.Given {
		problem = invalid("assigned_at", "says when assignee_id was assigned; give both or neither")
	}
	return t, orNil(problem)
}

// orNil keeps a nil *Invalid from becoming an error that isn't nil.
func orNil(problem *Invalid) error {
	if problem == nil {
		return nil
	}
	return problem
}

func checkEmail(s string) string {
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
		return "must be a plain e-mail address, like ann@example.com"
	}
	return ""
}

// zones are the time zones found so far: looking for one reads a file.
var zones sync.Map

func checkZone(s string) string {
	if _, ok := zones.Load(s); ok {
		return ""
	}
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return "must be a time zone of the IANA database, like Europe/Berlin"
	}
	zones.Store(s, true)
	return ""
}

func checkSource(s string) string {
	if s == "" {
		return "must not be empty; null means manual"
	}
	return ""
}

func checkRole(s string) string {
	ok := s != "" && len(s) <= maxRole && s[0] >= 'a' && s[0] <= 'z'
	for _, c := range []byte(s) {
		ok = ok && (c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
	}
	if !ok {
		return "must match [a-z][a-z0-9_]{0,62}"
	}
	return ""
}

func checkURL(s string) string {
	if plainURL(s) {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "must be an absolute http or https address"
	}
	return ""
}

// plainURL tells of most addresses that they are absolute http or https ones, without taking them apart.
func plainURL(s string) bool {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	return ok && host != "" && only(host, "-.") && only(path, "-._~/?=&+,;@")
}

// only tells whether s has only letters and digits of ASCII, and those others.
func only(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
