// Package testenv starts a real Kubernetes control plane for tests and for the
// demonstration: etcd, kube-apiserver with the Node and RBAC authorizers and
// NodeRestriction, and, when asked for, kube-controller-manager and
// kube-scheduler.
//
// The programs are the upstream ones, built once from the pinned modules of
// the nested module in controlplane/ (see [Binary]) and run as child
// processes. Nothing listens outside BindAddress: etcd is reached through a
// Unix socket, controller-manager and scheduler have no port, and the API
// server uses one free port below the usual ephemeral range, so that the port
// is still there after an outage made with [ControlPlane.StopAPIServer].
//
// What is not there: kubelets and a network. Package standin, below this one,
// stands in for the kubelets.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Names of the programs, as used for their log files and by [ControlPlane.LogTail].
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// startLimit bounds the start of one program. An idle machine needs 3 s for the
// slowest; a loaded one has needed ten times that.
const startLimit = 2 * time.Minute

// Options chooses the parts of a control plane. The zero value is an API server
// on 127.0.0.1 with nothing behind it but etcd.
type Options struct {
	// BindAddress is the IP address on which the API server listens.
	// Default 127.0.0.1.
	BindAddress string
	// ServerNames are further IP addresses or DNS names for which the API
	// server's certificate is valid.
	ServerNames []string
	// Controllers starts kube-controller-manager. Without it there is nothing
	// that creates pods of a Deployment, computes a PodDisruptionBudget's
	// status, taints nodes, or creates ServiceAccounts; the ServiceAccount
	// admission plugin is then off, so that plain pods can be created.
	Controllers bool
	// Scheduler starts kube-scheduler. It needs Controllers, because every new
	// Node is tainted not-ready until a controller takes the taint away.
	Scheduler bool
	// Audit keeps a log of every request at level Metadata, written in step
	// with the requests, for [ControlPlane.Requests].
	Audit bool
	// Dir holds certificates, data and logs, and is kept at the end. Default: a
	// new temporary directory, which Stop removes. A Unix socket is made in it,
	// so its path has to be shorter than 90 bytes.
	Dir string
	// Progress is told what takes long (the first build takes minutes).
	// Default: standard error.
	Progress io.Writer
}

// ControlPlane is a running control plane. Its methods may be used by many
// goroutines at once.
type ControlPlane struct {
	options   Options
	binary    string
	dir       string
	removeDir bool
	port      int
	ca        *authority
	admin     Credential
	client    kubernetes.Interface // of the administrator
	stranger  kubernetes.Interface // of a user in no group

	mu        sync.Mutex // guards processes and stopped
	processes map[string]*process
	stopped   bool
}

// Start builds the programs if that was not done before, starts a control
// plane, and returns when it answers. ctx bounds the start only; Stop ends the
// processes. They also end when this process does, however it ends.
//
// An error shows the last lines of the log of the program that failed.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if options.BindAddress == "" {
		options.BindAddress = "127.0.0.1"
	}
	if options.Progress == nil {
		options.Progress = os.Stderr
	}
	if net.ParseIP(options.BindAddress) == nil {
		return nil, fmt.Errorf("bind address %q is not an IP address", options.BindAddress)
	}
	if options.Scheduler && !options.Controllers {
		return nil, errors.New("a scheduler without controllers would never find an untainted node")
	}
	binary, err := Binary(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{options: options, binary: binary, dir: options.Dir, processes: map[string]*process{}}
	if cp.dir == "" {
		if cp.dir, err = os.MkdirTemp("", "kured-cp-"); err != nil {
			return nil, fmt.Errorf("directory of the control plane: %w", err)
		}
		cp.removeDir = true
	}
	if err := cp.start(ctx); err != nil {
		cp.Stop()
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	return cp, nil
}

func (cp *ControlPlane) start(ctx context.Context) error {
	if err := cp.prepare(); err != nil {
		return err
	}
	if err := cp.run(ctx, Etcd, cp.etcdArgs(), cp.etcdHealthy); err != nil {
		return err
	}
	if err := cp.startAPIServerOnFreePort(ctx); err != nil {
		return err
	}
	return cp.startControllers(ctx)
}

// startControllers starts controller-manager and scheduler if they are wanted.
func (cp *ControlPlane) startControllers(ctx context.Context) error {
	if cp.options.Controllers {
		if err := cp.run(ctx, ControllerManager, cp.controllerManagerArgs(), cp.controllersWork); err != nil {
			return err
		}
	}
	if cp.options.Scheduler {
		return cp.run(ctx, Scheduler, cp.schedulerArgs(), nil)
	}
	return nil
}

// Dir is the directory of the certificates, data and logs.
func (cp *ControlPlane) Dir() string { return cp.dir }

// Port is the API server's TCP port.
func (cp *ControlPlane) Port() int { return cp.port }

// Server is the API server's URL as seen from this machine.
func (cp *ControlPlane) Server() string {
	host := cp.options.BindAddress
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(cp.port))
}

// AdminConfig is a client configuration of a member of system:masters, to whom
// everything is allowed, without a limit on requests.
func (cp *ControlPlane) AdminConfig() *rest.Config {
	config := cp.admin.Config()
	config.QPS = -1
	return config
}

// Admin is a client made from AdminConfig.
func (cp *ControlPlane) Admin() kubernetes.Interface { return cp.client }

// AdminKubeconfig is the path of a kubeconfig for the same user, for kubectl.
func (cp *ControlPlane) AdminKubeconfig() string { return filepath.Join(cp.dir, "admin.kubeconfig") }

// StopAPIServer ends the API server as a crash does: connections break, nothing
// is said. The data stay, and so does everything else that runs.
func (cp *ControlPlane) StopAPIServer() error {
	server, err := cp.process(APIServer)
	if err != nil {
		return err
	}
	return server.end()
}

// StartAPIServer starts the API server again on the port it had, and returns
// when it is ready. Controller-manager and scheduler are started anew, so that
// they do not sit out the back-off of up to 30 s that they have reached by then.
func (cp *ControlPlane) StartAPIServer(ctx context.Context) error {
	server, err := cp.process(APIServer)
	if err != nil {
		return err
	}
	if server.running() {
		return errors.New("the API server is running already")
	}
	for _, name := range []string{Scheduler, ControllerManager} {
		if p, err := cp.process(name); err == nil {
			// It may have ended in the outage by itself; it is to be ended anyway.
			_ = p.end()
		}
	}
	if err := cp.run(ctx, APIServer, cp.apiServerArgs(), cp.apiServerReady); err != nil {
		return err
	}
	return cp.startControllers(ctx)
}

// PauseAPIServer freezes the API server: connections stay and new ones are
// accepted by the kernel, but nothing is answered.
func (cp *ControlPlane) PauseAPIServer() error {
	server, err := cp.process(APIServer)
	if err != nil {
		return err
	}
	return server.pause()
}

// ResumeAPIServer ends what PauseAPIServer began.
func (cp *ControlPlane) ResumeAPIServer() error {
	server, err := cp.process(APIServer)
	if err != nil {
		return err
	}
	return server.resume()
}

// Stop ends all processes, those that use another one first, and removes the
// directory unless it was given. It may be called more than once.
//
// The processes are killed: their data are worthless from now on, and a
// graceful end of the API server waits for every open watch.
func (cp *ControlPlane) Stop() {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	cp.stopped = true
	for _, name := range []string{Scheduler, ControllerManager, APIServer, Etcd} {
		if p := cp.processes[name]; p != nil {
			// The one error is that it ended already, which is what is wanted.
			_ = p.end()
		}
	}
	if cp.removeDir {
		// A temporary directory that stays is no reason to fail a test.
		_ = os.RemoveAll(cp.dir)
	}
}

// Err names the programs that ended without having been told to, or is nil.
func (cp *ControlPlane) Err() error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	var errs []error
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
		if p := cp.processes[name]; p != nil {
			errs = append(errs, p.crashed())
		}
	}
	return errors.Join(errs...)
}

// LogPath is the log file of the program with this name.
func (cp *ControlPlane) LogPath(name string) string { return filepath.Join(cp.dir, name+".log") }

// LogTail is the last lines of the program's log, or why they cannot be read.
func (cp *ControlPlane) LogTail(name string, lines int) string { return tail(cp.LogPath(name), lines) }

func (cp *ControlPlane) process(name string) (*process, error) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if p := cp.processes[name]; p != nil && !cp.stopped {
		return p, nil
	}
	return nil, fmt.Errorf("%s was not started", name)
}

// run starts the program and waits until ready answers nil; a nil ready means
// that nothing tells.
func (cp *ControlPlane) run(ctx context.Context, name string, args []string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cp.mu.Lock()
	if cp.stopped {
		cp.mu.Unlock()
		return fmt.Errorf("%s: the control plane was stopped", name)
	}
	p, err := startProcess(cp.binary, append([]string{name}, args...), cp.dir, cp.LogPath(name))
	if err == nil {
		cp.processes[name] = p
	}
	cp.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if ready == nil {
		return nil
	}
	if err := p.await(ctx, ready); err != nil {
		return fmt.Errorf("%s: %w; end of its log:\n%s", name, err, cp.LogTail(name, 20))
	}
	return nil
}
