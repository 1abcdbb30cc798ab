//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/testenv"
)

// watcher is a person's terminal with `kured status --all --watch`, on a machine that is no node.
type watcher struct {
	*story
	terminal *os.File // what the person types and sees
	command  *exec.Cmd
	shown    bytes.Buffer
	ended    chan error
}

// watchAll starts it. It is the program of the package.
func (s *story) watchAll() *watcher {
	s.t.Helper()
	file, err := cluster.Package(cluster.Release, "deb")
	s.must(err)
	dir := s.t.TempDir()
	if out, err := exec.CommandContext(s.ctx, "dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
		s.t.Fatalf("dpkg-deb -x: %v: %s", err, out)
	}
	kubeconfig, err := s.Plane.Kubeconfig("alice", testenv.Subject{User: "alice", Groups: []string{"system:masters"}})
	s.must(err)
	w := &watcher{story: s, ended: make(chan error, 1)}
	var side *os.File
	w.terminal, side, err = openTerminal(100, 24)
	s.must(err)
	w.command = exec.CommandContext(s.ctx, filepath.Join(dir, "usr/bin/kured"), "status", "--all", "--watch", "--kubeconfig", kubeconfig)
	w.command.Env = []string{"TERM=xterm", "NO_COLOR=1", "HOME=" + dir}
	w.command.Stdin, w.command.Stdout, w.command.Stderr = side, side, side
	// The terminal becomes the one that controls it: what is typed there interrupts it.
	w.command.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	s.must(w.command.Start())
	_ = side.Close() // it has its own
	s.t.Cleanup(func() { _ = w.terminal.Close() })
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(&w.shown, w.terminal) // ends with an error when nobody has the other side any more
		close(read)
	}()
	go func() {
		err := w.command.Wait()
		<-read
		w.ended <- err
	}()
	return w
}

// end types Ctrl-C and returns what the terminal showed, one text for each time that it was drawn.
func (w *watcher) end() []string {
	w.t.Helper()
	time.Sleep(2 * time.Second) // what has just changed is shown within one
	_, err := w.terminal.Write([]byte{3})
	w.must(err)
	select {
	case err := <-w.ended:
		if err != nil {
			w.t.Errorf("kured status --all --watch: %v", err)
		}
	case <-time.After(10 * time.Second):
		w.t.Fatal("kured status --all --watch does not end with Ctrl-C")
	}
	var frames []string
	for _, text := range drawnAnew.Split(w.shown.String(), -1) {
		text = strings.NewReplacer("\x1b[K", "", "\x1b[J", "", "\r", "", "^C", "").Replace(text)
		if strings.Contains(text, "\x1b") {
			w.t.Errorf("the terminal got what it was not expected to: %q", text)
		}
		if text = strings.TrimRight(text, " \n"); text != "" {
			frames = append(frames, text+"\n")
		}
	}
	return frames
}

// drawnAnew is how package terminal begins to draw over what is there.
var drawnAnew = regexp.MustCompile(`\x1b\[\d+F|\x1b\[H\x1b\[2J`)

// openTerminal opens a pseudo terminal of that size (pty(7)): the side of the person, and that of the program.
func openTerminal(columns, lines uint16) (person, program *os.File, err error) {
	person, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = person.Close()
		}
	}()
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("number of the terminal: %w", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns}); err != nil {
		return nil, nil, fmt.Errorf("size of the terminal: %w", err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	return person, program, err
}
