package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"go.uber.org/zap"
)

// minVersion is the oldest PostgreSQL that the schema and the statements are made for.
const minVersion = 14

const installHint = "install it (apt-get install postgresql, or brew install postgresql@17) or name a database (HANDOVER_DATABASE_URL)"

// installed is a folder with PostgreSQL's programs in it.
type installed struct {
	dir   string
	major int
}

// findBinaries returns the folder of the PostgreSQL to run: of the version that made the data, or the first one on PATH,
// or the newest of the machine, or a downloaded one.
func findBinaries(ctx context.Context, c *cluster) (string, error) {
	want, err := c.version()
	if err != nil {
		return "", err
	}
	var seen []string
	for _, found := range candidates(c) {
		if (want == 0 && found.major >= minVersion) || (want != 0 && found.major == want) {
			return found.dir, nil
		}
		seen = append(seen, fmt.Sprintf("%d in %s", found.major, found.dir))
	}
	if want != 0 {
		return "", fmt.Errorf("%s was made by PostgreSQL %d, which is not on this machine (found: %s): install that version, or move the directory away to begin anew",
			c.data, want, cmp.Or(strings.Join(seen, ", "), "none"))
	}
	dir := filepath.Join(c.dir, "binaries")
	c.options.Logger.Info("no PostgreSQL on this machine; downloading one", zap.String("part", "postgres"), zap.String("to", dir))
	if err := download(ctx, c, dir); err != nil {
		return "", fmt.Errorf("there is no PostgreSQL %d or later on this machine, and it can't be downloaded (%w): %s", minVersion, err, installHint)
	}
	return filepath.Join(dir, "bin"), nil
}

// candidates are the installations that the owner can run: the one on PATH first, then by version, newest first.
func candidates(c *cluster) []installed {
	var preferred, others []installed
	seen := map[string]bool{}
	add := func(to *[]installed, dir string) {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[dir] || c.owner.blockedAt(dir) != "" {
			return
		}
		seen[dir] = true
		if major := versionOf(dir); major > 0 {
			*to = append(*to, installed{dir, major})
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			add(&preferred, filepath.Dir(path))
		}
	}
	if said, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		add(&others, strings.TrimSpace(string(said)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
		"/usr/local/pgsql/bin", filepath.Join(c.dir, "binaries", "bin"),
	} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			add(&others, dir)
		}
	}
	slices.SortStableFunc(others, func(a, b installed) int { return b.major - a.major })
	return append(preferred, others...)
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// versionOf is the major version in a folder, or 0 when it can't make and run a server.
func versionOf(dir string) int {
	if info, err := os.Stat(filepath.Join(dir, "initdb")); err != nil || info.Mode()&0o111 == 0 {
		return 0
	}
	said, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	m := majorVersion.FindSubmatch(said)
	if m == nil {
		return 0
	}
	major, _ := strconv.Atoi(string(m[1]))
	return major
}

// download fetches PostgreSQL into dir. The library that knows where from can only start a whole server; that fails when
// we are root, but by then the programs are there, which is all that is wanted.
func download(ctx context.Context, c *cluster, dir string) error {
	port, err := c.port(0)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(c.dir, "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	unpacked := filepath.Join(scratch, "unpacked")
	db := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().Version(embeddedpostgres.V17).Port(uint32(port)).Logger(io.Discard).
		CachePath(filepath.Join(scratch, "cache")).RuntimePath(filepath.Join(scratch, "run")).BinariesPath(unpacked))
	result := make(chan error, 1)
	go func() {
		err := db.Start()
		if err == nil {
			err = db.Stop()
		}
		result <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err = <-result:
	}
	if versionOf(filepath.Join(unpacked, "bin")) == 0 {
		return cmp.Or(err, errors.New("the download has no PostgreSQL in it"))
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return err
	}
	return c.owner.takeAll(dir)
}
