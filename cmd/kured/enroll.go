package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kured-host/kured/internal/enroll"
	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/present"
)

// enrollment is what is asked of kured enroll.
type enrollment struct {
	self, force    bool
	method         string
	lifetime       time.Duration
	timeout        time.Duration
	file, dir      string
	server, caFile string
}

func newEnroll() *cobra.Command {
	var e enrollment
	cmd := &cobra.Command{
		Use:   "enroll NODE... | --self",
		Short: "Make or renew a credential of kured's own for a node",
		Long: `Make or renew a credential of kured's own for a node.

An administrator makes it: a client certificate, or a token that is bound to
the Node (Kubernetes 1.32 or later). The kubeconfig with it goes to standard
output, with --file to a file, with --dir to DIR/NODE.kubeconfig. A file that
is good for more than a third of its life is left as it is.

With --self the node renews its own token in the kubeconfig of its
configuration, as kured-renew.timer does, and before it is due asks nobody. A
certificate only an administrator can renew: then --self fails once it is due.

The cluster needs the manifests of kured manifests --identity dedicated.`,
		Args: args(func(_ *cobra.Command, given []string) error { return e.check(given) }),
		RunE: func(cmd *cobra.Command, given []string) error {
			if e.self {
				return e.renew(cmd)
			}
			return e.enroll(cmd, given)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&e.self, "self", false, "renew the token of this node")
	flags.StringVar(&e.method, "method", string(enroll.Certificate), "`kind` of credential: certificate or token")
	flags.DurationVar(&e.lifetime, "lifetime", enroll.DefaultLifetime, "`duration` for which it is good; the cluster may make it shorter")
	flags.StringVar(&e.file, "file", "", "kubeconfig `file` to write, or with --self to renew")
	flags.StringVar(&e.dir, "dir", "", "`directory` to write the kubeconfigs of several nodes to")
	flags.BoolVar(&e.force, "force", false, "make a new one even if the old one is still good")
	flags.StringVar(&e.server, "server", "", "`URL` by which nodes reach the API server (default: as in your kubeconfig)")
	flags.StringVar(&e.caFile, "certificate-authority", "", "`file` with the authority of the API server's certificate (default: as in your kubeconfig)")
	flags.DurationVar(&e.timeout, "timeout", time.Minute, "`duration` for each node")
	flags.String("kubeconfig", "", "kubeconfig `file` of the administrator")
	flags.String("config", configPath, "configuration `file`")
	return cmd
}

// check judges the command line.
func (e *enrollment) check(nodes []string) error {
	switch {
	case e.self && len(nodes) > 0:
		return errors.New("--self takes no NODE: it is the one that the credential is bound to")
	case e.self && (e.dir != "" || e.server != "" || e.caFile != ""):
		return errors.New("--self renews the kubeconfig that there is: no --dir, --server or --certificate-authority")
	case !e.self && len(nodes) == 0:
		return errors.New("say for which NODE, or --self")
	case !slices.Contains(enroll.Methods(), enroll.Method(e.method)):
		return fmt.Errorf("--method %q: must be certificate or token", present.Line(e.method))
	case e.file != "" && e.dir != "":
		return errors.New("--file or --dir, not both")
	case len(nodes) > 1 && e.dir == "":
		return errors.New("several nodes need --dir")
	case e.lifetime < enroll.MinLifetime || e.lifetime > 10*365*24*time.Hour:
		return fmt.Errorf("--lifetime %s: must be from %s to ten years", e.lifetime, enroll.MinLifetime)
	case e.timeout <= 0:
		return errors.New("--timeout must be positive")
	}
	for _, node := range nodes {
		if wrong := validation.IsDNS1123Subdomain(node); len(wrong) > 0 {
			return fmt.Errorf("%q is no name of a node", present.Line(node))
		}
	}
	return nil
}

// enroll makes credentials as an administrator.
func (e *enrollment) enroll(cmd *cobra.Command, nodes []string) error {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), e.timeout)
	defer cancel()
	person, err := kube.ConnectPerson(ctx, kube.PersonOptions{
		Kubeconfig: cmd.Flags().Lookup("kubeconfig").Value.String(), Kubelet: cfg.Kubernetes.Kubeconfig, Version: version})
	if err != nil {
		return err
	}
	if person.Node != "" {
		return fmt.Errorf("%s is the credential of the node %s: only an administrator makes identities, give an administrator's with --kubeconfig", person.Kubeconfig, person.Node)
	}
	server, err := e.reach(person.Kubeconfig)
	if err != nil {
		return err
	}
	if local(server.URL) {
		fmt.Fprintf(cmd.ErrOrStderr(), "kured: the kubeconfig leads to %s, which on the node is the node itself; else give --server\n", present.Line(server.URL))
	}
	if e.dir != "" { // before there are secrets that nobody could write down
		if err := os.MkdirAll(e.dir, 0o700); err != nil {
			return err
		}
	}
	var errs []error
	for _, node := range nodes {
		errs = append(errs, e.one(cmd, person, server, node))
	}
	return errors.Join(errs...)
}

// one makes the credential of a node.
func (e *enrollment) one(cmd *cobra.Command, person *kube.Person, server enroll.Server, node string) error {
	path := e.file
	if e.dir != "" {
		path = filepath.Join(e.dir, node+".kubeconfig")
	}
	if path != "" {
		old, err := enroll.Read(path)
		switch {
		case err == nil && old.Node == node && string(old.Method) == e.method && !old.Due(time.Now()) && !e.force:
			return tellEnrolled(cmd.OutOrStdout(), old, "is good", path)
		case err == nil && old.Node != node && !e.force:
			return fmt.Errorf("%s is the credential of the node %s, not of %s: --force replaces it", path, old.Node, node)
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !e.force:
			return fmt.Errorf("%w: --force replaces it", err)
		}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), e.timeout)
	defer cancel()
	var made enroll.Credential
	var err error
	if enroll.Method(e.method) == enroll.Token {
		made, err = enroll.WithToken(ctx, person.Client, node, "", e.lifetime)
	} else {
		made, err = enroll.WithCertificate(ctx, person.Client, node, e.lifetime)
	}
	if err != nil {
		return err
	}
	text, err := made.Kubeconfig(server)
	if err != nil {
		return err
	}
	if path == "" {
		if _, err := cmd.OutOrStdout().Write(text); err != nil {
			return err
		}
		return tellEnrolled(cmd.ErrOrStderr(), made, "is new, good", "standard output")
	}
	if err := enroll.Write(path, text); err != nil {
		return err
	}
	return tellEnrolled(cmd.OutOrStdout(), made, "is new, good", path)
}

// renew gets the next token as the node itself.
func (e *enrollment) renew(cmd *cobra.Command) error {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	path := e.file
	if path == "" {
		path = cfg.Kubernetes.Kubeconfig
	}
	if path == "" {
		return &exitError{exitConfig, errors.New("kured has no identity of its own here: kubeconfig in [kubernetes] is not set, and the kubelet renews its own")}
	}
	old, err := enroll.Read(path)
	if err != nil {
		return err
	}
	now := time.Now()
	again := "an administrator has to make a new one: " + old.Anew()
	switch ends := old.Ends.UTC().Format(time.RFC3339); {
	case !old.Ends.After(now):
		return fmt.Errorf("the %s in %s ended at %s: %s", old, path, ends, again)
	case !old.Due(now) && (!e.force || old.Method == enroll.Certificate):
		return tellEnrolled(cmd.OutOrStdout(), old, "is good", path)
	case old.Method == enroll.Certificate:
		return fmt.Errorf("the %s in %s ends at %s: %s", old, path, ends, again)
	}
	lifetime := e.lifetime
	if !cmd.Flags().Changed("lifetime") {
		lifetime = max(old.Ends.Sub(old.Begins), enroll.MinLifetime)
	}
	server, err := enroll.ServerOf(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), e.timeout)
	defer cancel()
	c, err := kube.Connect(ctx, kube.Options{Kubeconfig: path, NodeName: old.Node, Version: version})
	if err != nil {
		return err
	}
	defer c.CloseIdle()
	made, err := enroll.WithToken(ctx, c.Client, c.NodeName, c.UID, min(lifetime, enroll.MaxOwnLifetime))
	if err != nil {
		return fmt.Errorf("%w\nthe old one is good until %s; it takes the Role kured-own-token in identity.yaml", err, old.Ends.UTC().Format(time.RFC3339))
	}
	text, err := made.Kubeconfig(server)
	if err != nil {
		return err
	}
	if err := enroll.Write(path, text); err != nil {
		return err
	}
	return tellEnrolled(cmd.OutOrStdout(), made, "is new, good", path)
}

// reach is where the node finds the API server.
func (e *enrollment) reach(kubeconfig string) (enroll.Server, error) {
	server, err := enroll.ServerOf(kubeconfig)
	if err != nil {
		return enroll.Server{}, err
	}
	if e.server != "" {
		if u, err := url.Parse(e.server); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return enroll.Server{}, &exitError{exitUsage, fmt.Errorf("--server %q is no https:// address", present.Line(e.server))}
		}
		server.URL, server.Name = e.server, ""
	}
	if e.caFile != "" {
		if server.CA, err = os.ReadFile(e.caFile); err != nil {
			return enroll.Server{}, fmt.Errorf("--certificate-authority: %w", err)
		}
	}
	return server, nil
}

// local reports whether an address leads to the machine that uses it.
func local(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// tellEnrolled says of a credential how long it is good, and nothing secret.
func tellEnrolled(w io.Writer, c enroll.Credential, is, where string) error {
	_, err := fmt.Fprintf(w, "%s\n", present.Line(fmt.Sprintf("the %s %s until %s: %s", c, is, c.Ends.UTC().Format(time.RFC3339), where)))
	return err
}
