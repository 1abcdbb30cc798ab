package kube

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// pluginTime is how long a credential plugin may take. Some ask a server.
const pluginTime = 30 * time.Second

// killAfter, of timeout(1): how long a plugin may take to stop, in seconds. The
// timeout of BusyBox knows it by its short name alone.
const killAfter = "-k5"

// limitPlugin lets a credential plugin run for no longer than that. client-go
// waits for it without end and without looking at the context, and keeps all who
// ask later waiting as well; so timeout(1) runs it, where there is that. A
// plugin that is not there is left to client-go, which names it.
func limitPlugin(e *clientcmdapi.ExecConfig, most time.Duration) {
	plugin, missing := exec.LookPath(e.Command)
	timeout, without := exec.LookPath("timeout")
	if missing != nil || without != nil {
		return
	}
	seconds := strconv.FormatFloat(most.Seconds(), 'f', -1, 64)
	e.Command, e.Args = timeout, append([]string{killAfter, seconds, plugin}, e.Args...)
}

// isPluginError reports whether an error is that of a plugin: client-go has no
// type for them.
func isPluginError(err error) bool { return strings.HasPrefix(err.Error(), "getting credentials: ") }

// pluginError says what timeout(1) says of a plugin, and names the plugin.
func pluginError(e *clientcmdapi.ExecConfig, err error) error {
	if e == nil || len(e.Args) < 3 || e.Args[0] != killAfter {
		return err
	}
	before, code, failed := strings.Cut(err.Error(), "executable "+e.Command+" failed with exit code ")
	switch {
	case !failed:
		return err
	case code == "124", code == "137": // it was stopped; it was killed
		return fmt.Errorf("%s%s has not answered within %s s", before, e.Args[2], e.Args[1])
	}
	return errors.New(before + "executable " + e.Args[2] + " failed with exit code " + code)
}
