//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/e2e/cluster"
	"github.com/kured-host/kured/internal/e2e/nodes"
	"github.com/kured-host/kured/internal/e2e/typed"
)

// TestRepositories shows that nodes install and upgrade kured by its name from what `make repo` makes, over
// HTTP, and that they refuse whatever is not signed by its key. The nodes are in no cluster.
func TestRepositories(t *testing.T) {
	alone(t)
	ctx, cancel := cluster.Within(t.Context(), 8*time.Minute, "the repositories")
	defer cancel()
	room := roomFor(ctx, t)
	room.DumpOnFailure(t, t.Name(), daemon)
	debians, err := room.Add(ctx,
		nodes.Spec{Name: "bullseye", Image: nodes.Debian11},
		nodes.Spec{Name: "bookworm", Image: nodes.Debian12},
		nodes.Spec{Name: "trixie", Image: nodes.Debian13})
	if err != nil {
		t.Fatal(err)
	}
	rpms, err := room.Add(ctx, nodes.Spec{Name: "rpm", Image: nodes.Debian12RPM})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := newRepository(t), newRepository(t)
	ours.add(ctx, t, cluster.Release)
	theirs.add(ctx, t, cluster.Release)
	standIn(ctx, t, room)
	each(t, room.Nodes(), func(n *nodes.Node) error { return n.WaitSystemState(ctx, "running") })

	// on does the same with several nodes at once.
	on := func(what string, of []*nodes.Node, do func(p *packaged)) {
		t.Run(what, func(t *testing.T) {
			for _, n := range of {
				t.Run(n.Name, func(t *testing.T) {
					t.Parallel()
					do(&packaged{T: t, ctx: ctx, n: n})
				})
			}
		})
	}
	on("apt installs", debians, func(p *packaged) { aptInstalls(p, ours, theirs) })
	on("dnf installs", rpms, func(p *packaged) { dnfInstalls(p, ours, theirs) })
	ours.add(ctx, t, cluster.NextRelease)
	on("apt upgrades", debians, func(p *packaged) { aptUpgrades(p, ours) })
	on("dnf upgrades", rpms, func(p *packaged) { dnfUpgrades(p, ours) })
}

const (
	aptKey    = "/etc/apt/keyrings/kured.asc"
	aptSource = "/etc/apt/sources.list.d/kured.sources"
	dnfKey    = "/etc/pki/rpm-gpg/RPM-GPG-KEY-kured"
	dnfSource = "/etc/yum.repos.d/kured.repo"
)

func aptInstalls(p *packaged, ours, theirs *repository) {
	p.copy(ours, "kured.asc", aptKey)
	refused := func(url, command, why string) {
		p.Helper()
		p.source(ours, aptSource, url)
		p.refused(command, why)
		p.notInstalled("dpkg-query -W kured")
	}
	const update, install = "apt-get update", "apt-get update && apt-get install -y kured"
	refused(ours.serve(p.T, without("InRelease", "Release.gpg")), update, `The repository '.* stable Release' is not signed`)
	// The words of gpgv, and those of sqv in Debian 13.
	refused(theirs.serve(p.T, nil), update, `NO_PUBKEY|Missing key`)
	refused(ours.serve(p.T, damaged("/InRelease")), update, `BADSIG|Message has been manipulated`)
	refused(ours.serve(p.T, damaged("/binary-")), update, `Hash Sum mismatch`)
	refused(ours.serve(p.T, damaged("/pool/")), install, `kured_0.1.0_\w+\.deb\s+Hash Sum mismatch`)

	p.sh("rm -r " + path.Dir(aptKey) + " " + aptSource)
	p.documented(ours, "apt install kured")
	p.has(cluster.Release)
	// What unattended-upgrades decides by.
	if policy := p.sh("apt-cache policy"); !strings.Contains(policy, "release o=kured,a=stable,n=stable,l=kured,c=main") {
		p.Errorf("apt sees another release:\n%s", policy)
	}
}

func aptUpgrades(p *packaged, ours *repository) {
	const upgrade = "apt-get update && apt-get upgrade -y"
	p.source(ours, aptSource, ours.serve(p.T, damaged("/pool/")))
	p.refused(upgrade, `kured_0.1.1_\w+\.deb\s+Hash Sum mismatch`)
	p.has(cluster.Release)

	p.copy(ours, "kured.sources", aptSource)
	p.sh(upgrade)
	p.has(cluster.NextRelease)
	p.sh("apt-get install -y --allow-downgrades kured=" + cluster.Release)
	p.has(cluster.Release)
}

func dnfInstalls(p *packaged, ours, theirs *repository) {
	refused := func(url, why string, options ...string) {
		p.Helper()
		p.source(ours, dnfSource, url)
		p.refused("rm -rf /var/cache/dnf; dnf install -y "+strings.Join(options, " ")+" kured", why)
		p.notInstalled("rpm -q kured")
	}
	p.copy(theirs, "kured.asc", dnfKey)
	refused(ours.serve(p.T, nil), `repomd.xml GPG signature verification error: Bad GPG signature`)
	p.copy(ours, "kured.asc", dnfKey)
	refused(ours.serve(p.T, without("repomd.xml.asc")), `404 for \S+/repomd.xml.asc`)
	refused(ours.serve(p.T, damaged("/repomd.xml")), `repomd.xml GPG signature verification error: Bad GPG signature`)
	refused(ours.serve(p.T, damaged("-primary.xml.gz")), `checksum doesn't match`)
	refused(ours.serve(p.T, damaged(".rpm")), `checksum doesn't match`)
	// The packages have signatures of their own, for whoever does not look at that of the index.
	refused(theirs.serve(p.T, nil), `Public key for kured_0.1.0_\w+\.rpm is not installed`, "--setopt=kured.repo_gpgcheck=0")

	p.sh("rm " + dnfKey + " " + dnfSource)
	p.documented(ours, "dnf install kured")
	p.has(cluster.Release)
}

func dnfUpgrades(p *packaged, ours *repository) {
	p.source(ours, dnfSource, ours.serve(p.T, damaged(".rpm")))
	p.refused("dnf upgrade -y --refresh", `checksum doesn't match`)
	p.has(cluster.Release)

	p.copy(ours, "kured.repo", dnfSource)
	p.sh("dnf upgrade -y --refresh")
	p.has(cluster.NextRelease)
	p.sh("dnf downgrade -y kured")
	p.has(cluster.Release)
}

// documented types what docs/install.md tells to type on a node, to the command with which it ends.
func (p *packaged) documented(r *repository, last string) {
	p.Helper()
	text, err := os.ReadFile("../../docs/install.md")
	p.must(err)
	commands, err := typed.Commands(string(text), "By name, from a repository")
	p.must(err)
	var lines []string
	for _, c := range commands {
		lines = append(lines, strings.ReplaceAll(c.Text, "https://packages.example/kured", r.url))
		if c.Text == last {
			break
		}
		if strings.HasSuffix(c.Text, " install kured") {
			lines = nil // the other package manager's
		}
	}
	if len(lines) < 3 || lines[len(lines)-1] != last {
		p.Fatalf("docs/install.md does not tell how to come to %q: %q", last, lines)
	}
	for _, line := range lines {
		p.sh("yes | { " + line + "; }") // nobody is there to be asked
	}
}

// has checks that this version is installed and runs, as after any installation of the package.
func (p *packaged) has(version string) {
	p.Helper()
	p.units("enabled", "active")
	p.runs(version)
	if out := p.sh("kured version"); !strings.HasPrefix(out, "kured "+version+",") {
		p.Errorf("kured version says %q, want %s", out, version)
	}
}

// notInstalled checks that nothing of kured is there; query is what the package manager is asked.
func (p *packaged) notInstalled(query string) {
	p.Helper()
	p.sh("! " + query + " && [ ! -e /usr/bin/kured ] && [ ! -e /etc/kured ]")
	p.unitsGone()
}

// refused checks that a command fails, and that it says why.
func (p *packaged) refused(command, why string) {
	p.Helper()
	ctx, cancel := cluster.Within(p.ctx, time.Minute, command)
	defer cancel()
	out, err := p.n.Exec(ctx, "sh", "-c", "exec 2>&1; "+command)
	if _, exited := errors.AsType[*nodes.ExitError](err); err != nil && !exited {
		p.Fatal(err)
	}
	if err == nil || !regexp.MustCompile(why).MatchString(out) {
		p.Errorf("%s: %v, want that it fails and says %q:\n%s", command, err, why, out)
	}
}

// copy takes a file of the repository to the node.
func (p *packaged) copy(r *repository, name, to string) {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	p.must(err)
	p.must(p.n.WriteFile(to, text, 0o644))
}

// source makes the node see the repository at another address.
func (p *packaged) source(r *repository, to, url string) {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, path.Base(to)))
	p.must(err)
	if !bytes.Contains(text, []byte(r.url+"/")) {
		p.Fatalf("%s does not name %s:\n%s", path.Base(to), r.url, text)
	}
	p.must(p.n.WriteFile(to, bytes.ReplaceAll(text, []byte(r.url), []byte(url)), 0o644))
}

// repository is what `make repo` makes, and a server of it.
type repository struct {
	dir string
	url string
}

func newRepository(t *testing.T) *repository {
	r := &repository{dir: filepath.Join(t.TempDir(), "repository")}
	r.url = r.serve(t, nil)
	return r
}

// add adds a version, as it is done at a release. It is signed by a key that the first call makes.
func (r *repository) add(ctx context.Context, t *testing.T, version string) {
	t.Helper()
	dist := t.TempDir()
	for _, format := range []string{"deb", "rpm"} {
		file, err := cluster.Package(version, format)
		if err == nil {
			file, err = filepath.Abs(file)
		}
		if err == nil {
			err = os.Symlink(file, filepath.Join(dist, filepath.Base(file)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	command(ctx, t, "make", "-s", "repo", "-C", filepath.Join("..", ".."), "VERSION="+version, "DIST="+dist, "REPO="+r.dir, "REPO_URL="+r.url)
}

// serve serves the repository on the nodes' bridge until the test ends, and returns its address. change, if not
// nil, is asked what the answer is instead of a file; nil is "not found".
func (r *repository) serve(t *testing.T, change func(name string, text []byte) []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(nodes.HostAddr().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		name := filepath.Join(r.dir, path.Clean("/"+request.URL.Path))
		text, err := os.ReadFile(name)
		if err == nil && change != nil {
			text = change(name, text)
		}
		if errors.Is(err, fs.ErrNotExist) || err == nil && text == nil {
			http.NotFound(w, request)
			return
		}
		if err != nil {
			t.Errorf("serve: %v", err)
		}
		http.ServeContent(w, request, name, time.Time{}, bytes.NewReader(text))
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// damaged changes one byte of each file that has part in its name.
func damaged(part string) func(string, []byte) []byte {
	return func(name string, text []byte) []byte {
		if strings.Contains(name, part) && !strings.HasSuffix(name, ".asc") {
			text[len(text)/2] ^= 1
		}
		return text
	}
}

// without hides files.
func without(names ...string) func(string, []byte) []byte {
	return func(name string, text []byte) []byte {
		for _, hidden := range names {
			if path.Base(name) == hidden {
				return nil
			}
		}
		return text
	}
}

// standIn makes a repository with one rpm that claims to be the systemd of an rpm distribution, and puts it
// where the nodes see it: the nodes are Debians, and rpm knows nothing of what dpkg has installed.
func standIn(ctx context.Context, t *testing.T, room *nodes.Room) {
	t.Helper()
	dir := t.TempDir()
	spec := filepath.Join(dir, "stand-in.spec")
	if err := os.WriteFile(spec, []byte(`Name: systemd-stand-in
Version: 1
Release: 1
Summary: What Debian has installed, for rpm
License: none
BuildArch: noarch
Provides: systemd = 252
%description
It holds nothing.
%files
`), 0o644); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(room.Share, "stand-in")
	command(ctx, t, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_rpmdir "+to, spec)
	command(ctx, t, "createrepo_c", "--quiet", to)
	for _, n := range room.Nodes() {
		if n.Image != nodes.Debian12RPM {
			continue
		}
		if err := n.WriteFile("/etc/yum.repos.d/stand-in.repo",
			[]byte("[stand-in]\nname=stand-in\nbaseurl=file:///srv/share/stand-in\ngpgcheck=0\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// command runs a program on this machine.
func command(ctx context.Context, t *testing.T, line ...string) {
	t.Helper()
	if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", line, err, out)
	}
}
