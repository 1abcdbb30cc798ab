package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a child that dies with this process.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when the child is gone and waited for
	err     error         // of Wait; to be read after ended is closed

	mu   sync.Mutex // guards told
	told bool       // that we ended it ourselves
}

// startProcess starts path with args[0] as the applet's name. The child gets a
// process group of its own, so that an interrupt from the terminal leaves the
// order of stopping to us, and an environment without proxies.
func startProcess(path string, args []string, dir, logPath string) (*process, error) {
	// Appended to: a restarted API server continues its log.
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	defer logFile.Close()
	command := exec.Command(path, args...)
	command.Dir = dir
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	command.Stdout, command.Stderr = logFile, logFile
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	p := &process{command: command, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the *thread* that
		// forked ends (prctl(2), PR_SET_PDEATHSIG), and the Go runtime ends
		// threads at will. So this goroutine keeps its thread until the child
		// is gone; the thread is given up with the goroutine.
		runtime.LockOSThread()
		if err := command.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = command.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// await calls ready until it answers nil. It gives up when the child ends or
// ctx does, and then says what ready said last.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("ended before it was ready: %w", p.exit())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (p *process) exit() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// end kills the child, also a paused one, and waits until it is gone.
func (p *process) end() error {
	p.mu.Lock()
	p.told = true
	p.mu.Unlock()
	err := p.command.Process.Kill()
	<-p.ended
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// pause stops the child, and returns when all of its threads stand still.
func (p *process) pause() error {
	if err := p.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	for {
		// WNOWAIT, so that a child that is paused already answers as well.
		err := unix.Waitid(unix.P_PID, p.command.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("pause: wait for it: %w", err)
		}
	}
}

func (p *process) resume() error {
	if err := p.command.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// crashed is nil while the child runs and after we ended it.
func (p *process) crashed() error {
	if p.running() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %w", p.command.Args[1], p.exit())
}

// tail returns the last lines of a file, or the error in words.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(content, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
