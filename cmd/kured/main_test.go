package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
)

// The scripts in testdata/script are the specification of the command line:
// what is typed, what is said, and the exit code.
func TestMain(m *testing.M) {
	clientcmd.RecommendedHomeFile = "/no-home/.kube/config" // no test may reach a person's own clusters
	if os.Getenv(asProgram) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){
		"kured": func() { os.Exit(execute(context.Background(), os.Args[1:])) },
	})
}

// asProgram makes this test binary kured, signals and all.
const asProgram = "KURED_TEST_AS_PROGRAM"

// What waits for something that nobody can end, here for standard input, is ended by being interrupted again.
func TestInterruptedTwice(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "history", "--from", "-")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 1<<20)); err != nil { // more than a pipe holds, so it reads by now
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		_ = cmd.Process.Signal(os.Interrupt) // it may be gone already
		select {
		case <-ended:
			if ctx.Err() != nil {
				t.Error("it had to be killed")
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// No default may lead to this machine's own bus, kubeconfig or state.
			env.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+env.WorkDir+"/no-bus")
			env.Setenv("RUNTIME_DIRECTORY", env.WorkDir)
			env.Setenv("STATE_DIRECTORY", env.WorkDir)
			env.Setenv("KURED_BOOT_ID", "0123456789abcdef0123456789abcdef")
			env.Setenv("KUBECONFIG", "")
			env.Setenv("TWO_LINES", "two\nlines")
			env.Setenv("ESCAPE", "\x1b[2Jx")
			env.Values[scriptDaemonKey{}] = &scriptDaemon{followers: map[string]*follower{}}
			return nil
		},
		Cmds: scriptCommands(),
	})
}

// scriptCommands are kured's own commands of scripts; those with a daemon are in daemon_test.go.
func scriptCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		// exits CODE COMMAND... runs a command that must end with that code.
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			err := ts.Exec(args[1], args[2:]...)
			if got := exitCode(err); got != args[0] {
				ts.Fatalf("exit code %s, want %s", got, args[0])
			}
		},
		"daemon":    daemonCommand,
		"moments":   momentsCommand,
		"follow":    followCommand,
		"sees":      seesCommand,
		"interrupt": interruptCommand,
	}
}

func exitCode(err error) string {
	if err == nil {
		return "0"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}
