package kubernetes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kured-host/kured/internal/testenv"
)

// byPod is the ServiceAccount kured with the token of a pod on node-a.
const byPod = "pod"

// podCaller has the token that a pod with the ServiceAccount kured has: it says on which node the pod is, too.
func (w *world) podCaller(t *testing.T) caller {
	t.Helper()
	pods, accounts := w.plane.Admin().CoreV1().Pods(namespace), w.plane.Admin().CoreV1().ServiceAccounts(namespace)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod-of-kured", Namespace: namespace},
		Spec:       corev1.PodSpec{NodeName: "node-a", ServiceAccountName: "kured", Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}
	pod, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pods.Delete(context.Background(), pod.Name, *metav1.NewDeleteOptions(0)); err != nil {
			t.Error(err)
		}
	})
	got, err := accounts.CreateToken(t.Context(), "kured", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(w.plane.AdminConfig())
	config.BearerToken = got.Status.Token
	return newCaller(t, byPod, config)
}

// tokenFor asks for a token of a ServiceAccount, bound to an object; more is put into its spec.
func tokenFor(account, version, kind, name, uid, more string) request {
	ref := ""
	if kind != "" {
		ref = fmt.Sprintf(`"boundObjectRef":{"apiVersion":%s,"kind":"%s","name":"%s","uid":"%s"}`, version, kind, name, uid)
		if uid == "" {
			ref = fmt.Sprintf(`"boundObjectRef":{"apiVersion":%s,"kind":"%s","name":"%s"}`, version, kind, name)
		}
	}
	if more != "" && ref != "" {
		more = "," + more
	}
	return request{method: "POST", path: inNamespace + "/serviceaccounts/" + account + "/token",
		body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{` + ref + more + `}}`}
}

// attacksOnTokens get tokens that are not the next one for the own Node.
func attacksOnTokens() []attack {
	var all []attack
	add := func(name string, r request, as ...string) { all = append(all, attack{name: name, as: as, request: r}) }
	own := tokenFor("kured", `"v1"`, "Node", "node-a", "<uid of node-a>", "")
	add("get a token for another node", tokenFor("kured", `"v1"`, "Node", "node-b", "<uid of node-b>", ""))
	add("get a token for another node without its UID", tokenFor("kured", `"v1"`, "Node", "node-b", "", ""))
	add("get a token for another node with the own UID", tokenFor("kured", `"v1"`, "Node", "node-b", "<uid of node-a>", ""))
	add("get a token for the own name without a UID", tokenFor("kured", `"v1"`, "Node", "node-a", "", ""))
	add("get a token for the own name and another UID", tokenFor("kured", `"v1"`, "Node", "node-a", "<uid of node-b>", ""))
	add("get a token for no node", tokenFor("kured", "", "", "", "", ""))
	add("get a token for a pod", tokenFor("kured", `"v1"`, "Pod", "pod-of-kured", "", ""))
	add("get a token for longer than 30 days", tokenFor("kured", `"v1"`, "Node", "node-a", "<uid of node-a>", `"expirationSeconds":2592001`))
	add("get a token of another ServiceAccount", tokenFor("other", `"v1"`, "Node", "node-a", "<uid of node-a>", ""))
	add("get a token for the own node, not having one", own, byKubelet, byCertificate, byMore, "no-node", "other-account", "no-group", "stranger")
	add("get a token for the own node by that of a pod", own, byPod)
	return all
}

// A node with a token gets the next one, and with it is the same node and no other.
func TestNextToken(t *testing.T) {
	w := theWorld(t)
	first := w.caller(t, byToken, "node-a")
	got := w.must(t, first, tokenFor("kured", `"v1"`, "Node", "node-a", "<uid of node-a>", `"expirationSeconds":2592000`))
	var answer authenticationv1.TokenRequest
	if err := json.Unmarshal(got.body, &answer); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(answer.Status.ExpirationTimestamp.Time); left < 29*24*time.Hour {
		t.Errorf("it ends in %s", left)
	}
	next := testenv.Credential{Server: w.plane.Server(), CA: w.plane.AdminConfig().CAData, Token: answer.Status.Token}
	client, err := kubernetes.NewForConfig(next.Config())
	if err != nil {
		t.Fatal(err)
	}
	who, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if on := who.Status.UserInfo.Extra["authentication.kubernetes.io/node-name"]; len(on) != 1 || on[0] != "node-a" {
		t.Errorf("it is bound to %q", on)
	}
	second := newCaller(t, "next", next.Config())
	cordon := `{"spec":{"unschedulable":null}}`
	w.must(t, second, request{method: "PATCH", path: nodesPath + "node-a", media: mergePatch, body: cordon})
	if got := w.send(t, second, request{method: "PATCH", path: nodesPath + "node-b?dryRun=All", media: mergePatch, body: `{"spec":{"unschedulable":true}}`}); !got.refused() {
		t.Errorf("the next token cordons another node: %d", got.code)
	}
}
