package notify

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files is the channel for a machine without a mail server: every mail becomes a .eml file, which any mail program opens.
type Files struct {
	dir string
}

// NewFiles writes mails under dir, which is created, readable for its owner alone, when it isn't there.
func NewFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for mails: %w", err)
	}
	return &Files{dir: dir}, nil
}

// Send writes the mail under a name that is its notice's alone, whole or not at all: a second try replaces the file by
// the same bytes. A file that can't be written is NotSent.
func (f *Files) Send(_ context.Context, mail Frozen) Result {
	path := filepath.Join(f.dir, fileName(mail))
	if err := writeWhole(path, mail.MIME); err != nil {
		return Result{Outcome: NotSent, Err: err, Response: err.Error()}
	}
	return Result{Outcome: Accepted, Response: "written to " + filepath.Base(path)}
}

func fileName(mail Frozen) string {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(mail.To))
	slug = strings.Trim(slug[:min(len(slug), 80)], "-.")
	return fmt.Sprintf("%d-%s.eml", mail.ID, cmp.Or(slug, "recipient"))
}

// writeWhole is atomic and durable: who sees the name sees all the bytes, also after the power was cut.
func writeWhole(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".mail-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(content); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
