package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

// folder is one that the user who runs PostgreSQL can reach, which t.TempDir is not when the tests are run by root.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgres")
}

func options(t *testing.T, dir string) postgres.ServerOptions {
	t.Helper()
	return postgres.ServerOptions{Dir: dir, Logger: testkit.Logger(t), Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"}}
}

func start(t *testing.T, o postgres.ServerOptions) *postgres.Server {
	t.Helper()
	begun := time.Now()
	s, err := postgres.StartServer(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(begun))
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *postgres.Server) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, url, sql string) (out string) {
	t.Helper()
	if err := connect(t, url).QueryRow(context.Background(), sql).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func keep(t *testing.T, url string) {
	t.Helper()
	if _, err := connect(t, url).Exec(context.Background(), `CREATE TABLE kept AS SELECT 'here' AS it`); err != nil {
		t.Fatal(err)
	}
}

// postmaster is the process id of the server that runs in dir.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestTheServerKeepsItsDataAndItsURL(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, options(t, dir))
	keep(t, first.URL())
	stop(t, first)
	select {
	case <-first.Done():
	default:
		t.Error("Stop returned before the end")
	}
	second := start(t, options(t, dir))
	if first.URL() != second.URL() {
		t.Errorf("got %s, before it was %s", second.URL(), first.URL())
	}
	if got := query(t, second.URL(), `SELECT it FROM kept`); got != "here" {
		t.Errorf("got %q", got)
	}
	for setting, want := range map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC", "shared_buffers": "16MB",
		"max_wal_size": "4GB", "server_encoding": "UTF8", "data_checksums": "on", "synchronous_commit": "on",
	} {
		if got := query(t, second.URL(), "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

func TestNobodyComesInWithoutThePassword(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, folder(t)))
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "guess"
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err == nil {
		_ = conn.Close(context.Background())
		t.Fatal("a wrong password was accepted")
	}
	if postgres.Unavailable(err) {
		t.Errorf("a wrong password is taken for an outage: %v", err)
	}
}

func TestAKilledServerStartsAgain(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, options(t, dir))
	keep(t, first.URL())
	busy := connect(t, first.URL())
	busy.PgConn().ExecParams(context.Background(), `SELECT count(*) FROM generate_series(1, 5000000)`, nil, nil, nil, nil)
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	stop(t, first)
	second := start(t, options(t, dir))
	if got := query(t, second.URL(), `SELECT it FROM kept`); got != "here" {
		t.Errorf("got %q", got)
	}
}

// heldDir makes this test binary the process that is killed: it starts the server there and waits for its end.
const heldDir = "HANDOVER_TEST_HELD_DIR"

func TestAKillOfOurOwnProcessIsNoObstacle(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(heldDir); dir != "" {
		start(t, options(t, dir))
		fmt.Println("started")
		<-make(chan struct{})
	}
	dir := folder(t)
	for range 2 {
		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), heldDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
			t.Fatalf("got %q (%v)", line, err)
		}
		left := postmaster(t, dir)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		if runtime.GOOS == "linux" {
			testkit.Eventually(t, "the server ends with its parent", func() (bool, string) {
				_, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
				return os.IsNotExist(err), fmt.Sprintf("process %d: %v", left, err)
			})
		}
	}
	query(t, start(t, options(t, dir)).URL(), `SELECT 'works'`)
}

func TestAServerThatWasLeftRunningIsStopped(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	// A detached one is what a killed process leaves where the kernel can't be asked to stop it.
	detached := options(t, dir)
	detached.Detached = true
	left := start(t, detached)
	second := start(t, options(t, dir))
	<-left.Done()
	query(t, second.URL(), `SELECT 'works'`)
}

func TestADetachedServerIsShared(t *testing.T) {
	t.Parallel()
	o := options(t, folder(t))
	o.Detached = true
	first := start(t, o)
	second := start(t, o)
	if first.URL() != second.URL() || second.Done() != nil {
		t.Errorf("got another server: %s and %s", first.URL(), second.URL())
	}
}

func TestAStaleLockFileOfAnotherProcessIsRemoved(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	stop(t, start(t, options(t, dir)))
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dead.Wait() })
	// As after a restart of the machine, when the process id is somebody else's; and when it is that of a dead process
	// that nobody has asked for.
	for _, pid := range []int{os.Getppid(), dead.Process.Pid} {
		file := filepath.Join(dir, "data", "postmaster.pid")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)+"\n"+dir+"/data\n1\n5432\n\n\n\nready\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stop(t, start(t, options(t, dir)))
	}
}

func TestAHalfMadeDatabaseIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	half := filepath.Join(dir, "init-123", "data")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	query(t, start(t, options(t, dir)).URL(), `SELECT 'works'`)
	if left, _ := filepath.Glob(filepath.Join(dir, "init-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAPortThatIsTakenIsReplaced(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := start(t, options(t, dir))
	other := folder(t)
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	port, err := os.ReadFile(filepath.Join(dir, "port"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "port"), port, 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, options(t, other))
	if first.URL() == second.URL() {
		t.Error("two servers have one URL")
	}
}

func TestWhatCantStartSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, o *postgres.ServerOptions)
		says    string
	}{
		"something else is in the folder": {func(t *testing.T, o *postgres.ServerOptions) {
			if err := os.MkdirAll(filepath.Join(o.Dir, "data", "holiday pictures"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "is not a PostgreSQL data directory: move it away"},
		"the data are of a version that is not here": {func(t *testing.T, o *postgres.ServerOptions) {
			if err := os.MkdirAll(filepath.Join(o.Dir, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(o.Dir, "data", "PG_VERSION"), []byte("99\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "was made by PostgreSQL 99"},
		"a setting is wrong": {func(_ *testing.T, o *postgres.ServerOptions) {
			o.Settings = map[string]string{"fsync": "off", "shared_buffers": "a lot"}
		}, `invalid value for parameter "shared_buffers"`},
		"another process has it": {func(t *testing.T, o *postgres.ServerOptions) { start(t, *o) }, "is in use by another process"},
		"root can't give the folder to anybody": {func(t *testing.T, o *postgres.ServerOptions) {
			if os.Geteuid() != 0 { // then nobody else has to reach it, and this is the folder of the first case
				if err := os.MkdirAll(filepath.Join(o.Dir, "data"), 0o755); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err := os.Chmod(filepath.Dir(filepath.Dir(o.Dir)), 0o700); err != nil {
				t.Fatal(err)
			}
		}, map[bool]string{true: "HANDOVER_DATA_DIR", false: "move it away"}[os.Geteuid() == 0]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, folder(t))
			c.prepare(t, &o)
			s, err := postgres.StartServer(context.Background(), o)
			if err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %q, want it to say %q", err, c.says)
			}
		})
	}
}

func TestAStartThatIsGivenUpLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	o := options(t, folder(t))
	stop(t, start(t, o))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if s, err := postgres.StartServer(ctx, o); err == nil {
		stop(t, s)
	}
	start(t, o)
}
