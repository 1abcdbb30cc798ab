package testenv

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// shownLines is how much of each log is shown when a test fails.
const shownLines = 30

// New starts a control plane for one test and stops it at the test's end. When
// the test failed, or when a program ended by itself, which fails the test, the
// ends of the logs are shown.
func New(t testing.TB, options Options) *ControlPlane {
	t.Helper()
	cp, err := Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Err(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(cp.logs())
		}
		cp.Stop()
	})
	return cp
}

// Main runs a package's tests with one control plane for all of them, which use
// hands to them. It returns the code for os.Exit:
//
//	var cluster *testenv.ControlPlane
//
//	func TestMain(m *testing.M) {
//		os.Exit(testenv.Main(m, testenv.Options{}, func(cp *testenv.ControlPlane) { cluster = cp }))
//	}
func Main(m *testing.M, options Options, use func(*ControlPlane)) int {
	cp, err := Start(context.Background(), options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cp.Stop()
	use(cp)
	code := m.Run()
	if err := cp.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, cp.logs())
	}
	return code
}

// logs is the end of the log of every program that was started.
func (cp *ControlPlane) logs() string {
	var text string
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
		if _, err := cp.process(name); err == nil {
			text += fmt.Sprintf("--- end of the log of %s\n%s\n", name, cp.LogTail(name, shownLines))
		}
	}
	return text
}
