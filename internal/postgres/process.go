package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// startProcess starts cmd and returns its process id and a channel that is closed when it has ended. Unless detached it
// is told to stop when this process dies, however that happens, where the system can do that.
func startProcess(cmd *exec.Cmd, detached bool) (int, <-chan struct{}, error) {
	started, done := make(chan error), make(chan struct{})
	if !detached {
		stopWithParent(cmd.SysProcAttr)
	}
	go func() {
		// Linux means the thread that started the child when it says parent. So this thread must live as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, done, nil
}

// exists tells whether the process id is taken, as PostgreSQL itself would see it.
func exists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// ended is true of a process that nobody has asked for yet, too: in a container that can be so for ever.
func ended(pid int) bool {
	if !exists(pid) {
		return true
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && strings.HasPrefix(state, "Z")
}

// commandLine of a process, or "".
func commandLine(pid int) string {
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return strings.ReplaceAll(string(text), "\x00", " ")
	}
	text, _ := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(text)
}

// owner is the unprivileged user who runs PostgreSQL when this process is root, which PostgreSQL refuses. A nil owner is
// this process's own user, and needs nothing done.
type owner struct {
	name     string
	uid, gid int
}

// findOwner is nil unless this process is root: then whoever owns the data already, or postgres, or nobody.
func findOwner(data string) (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(data); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
			return &owner{name: strconv.Itoa(int(s.Uid)), uid: int(s.Uid), gid: int(s.Gid)}, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return &owner{name: name, uid: uid, gid: gid}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody: run Handover as another user, or name a database (HANDOVER_DATABASE_URL)")
}

// take gives a file to the owner.
func (o *owner) take(path string) error {
	if o == nil {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}

// become makes a command run as the owner.
func (o *owner) become(a *syscall.SysProcAttr) {
	if o != nil {
		a.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
}

// blockedAt is the first directory on the way to and including dir that the owner can't enter, or "".
func (o *owner) blockedAt(dir string) string {
	if o == nil {
		return ""
	}
	if parent := filepath.Dir(dir); parent != dir {
		if blocked := o.blockedAt(parent); blocked != "" {
			return blocked
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	enter := fs.FileMode(0o001)
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) == o.uid {
		enter = 0o100
	} else if ok && int(s.Gid) == o.gid {
		enter = 0o010
	}
	if info.Mode()&enter == 0 {
		return dir
	}
	return ""
}

// takeAll gives a folder and everything in it to the owner.
func (o *owner) takeAll(dir string) error {
	if o == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.uid, o.gid)
	})
}
