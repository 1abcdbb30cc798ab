package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kured-host/kured/internal/kube"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/manifests"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// Names of an installation that needs no options.
const (
	defaultNamespace = manifests.DefaultNamespace
	defaultLock      = manifests.DefaultName
	defaultPolicy    = manifests.DefaultPolicy
)

// Cluster is the API server as this node meets it.
type Cluster struct {
	Client kubernetes.Interface
	Node   string // our name
	Source string // where that is from, one of kube's Source constants
	User   string // the name under which the API server knows us
	Boot   string // our boot id, 32 hex digits

	Lock  lock.ConfigMap
	Needs Needs
	Now   func() time.Time
	// DaemonSet is NAMESPACE/NAME of the DaemonSet kured whose lock is
	// respected; empty: none is.
	DaemonSet string
}

func (c *Cluster) kubelet() bool { return strings.HasPrefix(c.User, "system:node:") }

// Kubeconfig says why there is no connection, or which one it is.
func Kubeconfig(c *kube.Cluster, err error) []Finding {
	if err != nil {
		remedy := "see whether this node has joined the cluster"
		var known *kube.Error
		switch isKube := errors.As(err, &known); {
		case errors.Is(err, fs.ErrPermission):
			remedy = "run kured doctor as root"
		case isKube && known.Kind == kube.Unreachable:
			remedy = "see whether the API server runs, and the network between"
		case isKube && (known.Kind == kube.Ambiguous || known.Kind == kube.Mismatch):
			remedy = "correct [kubernetes] in /etc/kured/kured.toml"
		}
		return one(fail(remedy, "%v; what needs the API server was not looked at", err))
	}
	return one(ok("%s leads to %s", c.Kubeconfig, c.Server))
}

// Identity checks as whom the API server knows us.
func (c *Cluster) Identity(ctx context.Context) []Finding {
	groups := "groups not known: the API server is older than 1.28"
	review, err := c.Client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	switch {
	case err == nil:
		groups = "groups " + strings.Join(review.Status.UserInfo.Groups, ", ")
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return one(warn("", "who we are cannot be asked: %v", err))
	}
	who := fmt.Sprintf("node %s, user %s, %s", c.Node, c.User, groups)
	switch {
	case c.Source == kube.SourceHostname || c.Source == kube.SourceConfiguration:
		return one(warn("use the kubelet's kubeconfig, or one that kured manifests --identity dedicated is for",
			"%s: the credential is not that of one node, so nothing keeps it from changing others", who))
	case err == nil && c.kubelet() && !slices.Contains(review.Status.UserInfo.Groups, "system:nodes"):
		return one(fail("renew the kubelet's certificate with O=system:nodes", "%s: a kubelet has to be in the group system:nodes", who))
	}
	return one(ok("%s", who))
}

// Self tries the cordon on our own Node, as a dry run.
func (c *Cluster) Self(ctx context.Context) []Finding {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{node.MarkAnnotation: c.Boot}},
		"spec":     map[string]any{"unschedulable": true},
	})
	if err != nil {
		return one(fail("", "encode the cordon: %v", err))
	}
	_, err = c.Client.CoreV1().Nodes().Patch(ctx, c.Node, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: "kured", DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return one(fail(c.manifests(), "a dry run of the cordon is refused: %v", err))
	}
	return one(ok("a dry run of the cordon of %s is accepted", c.Node))
}

// Wall checks whether the API server itself keeps the lock's rules.
func (c *Cluster) Wall(ctx context.Context) []Finding {
	stands, err := c.Lock.Enforced(ctx, c.Node)
	switch {
	case errors.Is(err, lock.ErrMissing):
		return one(warn(c.manifests(), "not known while there is no lock"))
	case err != nil:
		return one(warn("", "whether the API server keeps the rules of the lock is not known: %v", err))
	case !stands:
		return one(warn(c.manifests()+" (Kubernetes 1.30 or later)", "the nodes alone keep the rules of the lock: each of them has to be trusted with it"))
	}
	return one(ok("the API server keeps the rules of the lock"))
}

// Object checks that the lock is there and can be read.
func (c *Cluster) Object(ctx context.Context) []Finding {
	name := c.Lock.Namespace + "/" + c.Lock.Name
	snap, err := c.Lock.Read(ctx)
	switch {
	case errors.Is(err, lock.ErrMissing):
		return one(fail(c.manifests(), "the ConfigMap %s does not exist", name))
	case err != nil:
		return one(fail(c.manifests(), "%v", err))
	}
	if what := snap.State.HolderDamage(c.Node); what != "" {
		return one(fail("kured lock release "+c.Node+" --reason WHY", "our own entry in %s cannot be read: %s", name, what))
	}
	if n := len(snap.State.Damaged); n > 0 {
		return one(warn("kured lock", "%s of %s cannot be read, counted as holders or waiters, such as %s: %s",
			status.Count(n, "key"), name, snap.State.Damaged[0].Key, snap.State.Damaged[0].What))
	}
	return one(ok("%s: %d hold it, %d wait", name, len(snap.State.Holders), len(snap.State.Waiters)))
}

// Policy checks what the cluster says about all reboots.
func (c *Cluster) Policy(ctx context.Context) []Finding {
	name := c.Lock.Namespace + "/" + c.Lock.PolicyName
	if c.Lock.PolicyName == "" {
		return one(ok("none is read (lock.policy is empty)"))
	}
	policy, err := c.Lock.Policy(ctx)
	switch {
	case err != nil:
		return one(fail(c.manifests(), "%v", err))
	case len(policy.Problems) > 0:
		_, detail, _ := policy.Closed(c.Now())
		return one(fail("kubectl -n "+c.Lock.Namespace+" edit configmap "+c.Lock.PolicyName, "%s: %s", name, detail))
	}
	if reason, detail, _ := policy.Closed(c.Now()); reason != "" {
		return one(warn("kubectl -n "+c.Lock.Namespace+" edit configmap "+c.Lock.PolicyName, "%s lets nobody reboot: %s", name, detail))
	}
	return one(ok("%s lets nodes reboot", name))
}

// Bounds of the difference of clocks.
const (
	clockWarns = 5 * time.Second
	clockFails = time.Minute
)

// Clock compares our clock with the API server's, by the Date of an answer.
func (c *Cluster) Clock(ctx context.Context) []Finding {
	client, known := c.Client.Discovery().RESTClient().(*rest.RESTClient)
	if !known || client == nil || client.Client == nil {
		return one(warn("", "the API server's clock cannot be read with this client"))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Get().AbsPath("/version").URL().String(), nil)
	if err != nil {
		return one(warn("", "ask for the API server's clock: %v", err))
	}
	begun := c.Now()
	response, err := client.Client.Do(request)
	ended := c.Now()
	if err != nil {
		return one(warn("", "the API server's clock is not known: %v", err))
	}
	if err := response.Body.Close(); err != nil {
		return one(warn("", "the API server's clock is not known: %v", err))
	}
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return one(warn("", "the API server does not tell the time"))
	}
	return one(clock(at, begun, ended))
}

// clock judges a Date, which is cut to whole seconds, of an answer that came
// between two moments of our clock.
func clock(at, begun, ended time.Time) Finding {
	const remedy = "timedatectl status; systemctl status chronyd systemd-timesyncd"
	var off time.Duration
	switch {
	case at.After(ended):
		off = at.Sub(ended)
	case at.Add(time.Second).Before(begun):
		off = at.Add(time.Second).Sub(begun)
	}
	text := "ahead of"
	if off > 0 {
		text = "behind"
	}
	switch apart := off.Abs().Round(time.Second); {
	case apart > clockFails:
		return fail(remedy, "this machine's clock is %s %s that of the API server: certificates, windows and pauses go by it", apart, text)
	case apart > clockWarns:
		return warn(remedy, "this machine's clock is %s %s that of the API server", apart, text)
	}
	return ok("this machine's clock agrees with that of the API server")
}

// Rival looks for the DaemonSet kured, in its usual place and the configured one.
func (c *Cluster) Rival(ctx context.Context) []Finding {
	places := []string{"kube-system/kured"}
	if c.DaemonSet != "" && c.DaemonSet != places[0] {
		places = append(places, c.DaemonSet)
	}
	for _, place := range places {
		namespace, name, _ := strings.Cut(place, "/")
		_, err := c.Client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return one(warn(c.manifests(), "whether there is a DaemonSet %s cannot be asked: %v", place, err))
		case place != c.DaemonSet:
			return one(fail(fmt.Sprintf("set daemonset = %q in [compat] of /etc/kured/kured.toml, or delete the DaemonSet; see docs/migration.md", place),
				"the DaemonSet %s is in the cluster and reboots nodes by a lock of its own", place))
		default:
			return one(ok("the DaemonSet %s is in the cluster, and its lock is respected", place))
		}
	}
	return one(ok("there is no DaemonSet %s", strings.Join(places, " or ")))
}

// Version is that of the API server, such as "v1.37.1", and its minor number, 0
// if that cannot be told. Both are empty if it does not answer.
func (c *Cluster) Version(ctx context.Context) (text string, minor int) {
	answer, err := c.Client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	var info version.Info
	if err != nil || json.Unmarshal(answer, &info) != nil {
		return "", 0
	}
	// Some providers write "30+".
	minor, err = strconv.Atoi(strings.TrimRight(info.Minor, "+"))
	if err != nil {
		minor = 0
	}
	return info.GitVersion, minor
}

// oldestMinor is that of the first version of Kubernetes with the admission policies of wall.yaml.
const oldestMinor = 30

// Versions tells what is here together.
func Versions(kured, systemd, kubernetes string, minor int) []Finding {
	text := "kured " + kured
	for _, part := range []struct{ name, version string }{{"systemd", systemd}, {"Kubernetes", kubernetes}} {
		if part.version != "" {
			text += ", " + part.name + " " + part.version
		}
	}
	if minor > 0 && minor < oldestMinor {
		return one(warn("trust the nodes with the lock, or upgrade Kubernetes", "%s: the API server can keep the rules of the lock since 1.%d", text, oldestMinor))
	}
	return one(ok("%s", text))
}
