// Package fakeapi is a small API server for tests of what kured does with its Node and the pods there: exact codes and bodies,
// no sockets, so that it works under testing/synctest.
package fakeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// API is an API server behind an http.RoundTripper. It knows one Node called n1, pods on it, DaemonSets, bound claims and
// evictions, and refuses all else as the Node authorizer does. The exported fields are set before it is asked, or by what it calls.
type API struct {
	t *testing.T

	Sets   map[string]bool   // DaemonSets that exist, by namespace/name
	Claims map[string]string // bound PersistentVolumeClaims, by namespace/name: the CSI driver and handle, with a space

	// Evict answers an eviction; nil accepts it. The pod terminates as Stop says.
	Evict func(pod *corev1.Pod, attempt int) *apierrors.StatusError
	// Stop is how long a pod takes from its eviction until it is gone; negative: for ever.
	Stop func(pod *corev1.Pod) time.Duration
	// Before may answer any request instead of the server (resp or err not nil).
	Before func(req *http.Request) (*http.Response, error)
	// After may replace the reply of a request that was carried out: a lost reply.
	After func(req *http.Request, resp *http.Response) (*http.Response, error)

	mu       sync.Mutex
	version  int
	node     *corev1.Node
	pods     map[string]*corev1.Pod // by namespace/name
	events   []event
	watchers []*watcher
	log      []Request
	attempts map[types.UID]int
}

// Request is one that was made.
type Request struct {
	Method, Path string
	Watch        bool
	At           time.Time
	Body         string
}

type event struct {
	version int
	kind    string
	frame   []byte
}

type watcher struct {
	kind string
	pipe *io.PipeWriter
	feed chan []byte
}

// New returns a server without a Node and without pods, whose pods take 10 s to stop.
func New(t *testing.T) *API {
	return &API{
		t: t, pods: map[string]*corev1.Pod{}, Sets: map[string]bool{}, attempts: map[types.UID]int{},
		Stop: func(*corev1.Pod) time.Duration { return 10 * time.Second },
	}
}

// Client returns a client of this server.
func (f *API) Client() kubernetes.Interface {
	f.t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api.invalid", Transport: f, QPS: -1})
	if err != nil {
		f.t.Fatal(err)
	}
	return client
}

// Requests returns the requests whose path contains part and whose method is method ("": any).
func (f *API) Requests(method, part string) []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Request
	for _, r := range f.log {
		if (method == "" || r.Method == method) && strings.Contains(r.Path, part) {
			out = append(out, r)
		}
	}
	return out
}

// AddPod binds a pod to the Node, or replaces the one of its name.
func (f *API) AddPod(pod *corev1.Pod) *corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	pod.ResourceVersion = strconv.Itoa(f.version)
	if pod.UID == "" {
		pod.UID = types.UID("uid-" + pod.Namespace + "-" + pod.Name + "-" + pod.ResourceVersion)
	}
	pod.Spec.NodeName = "n1"
	f.pods[pod.Namespace+"/"+pod.Name] = pod
	f.tell("pods", "ADDED", pod)
	return pod
}

// RemovePod makes the pod vanish, if it is still the one with that UID.
func (f *API) RemovePod(namespace, name string, uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(namespace+"/"+name, uid)
}

func (f *API) removeLocked(id string, uid types.UID) {
	pod := f.pods[id]
	if pod == nil || pod.UID != uid {
		return
	}
	f.version++
	pod = pod.DeepCopy()
	pod.ResourceVersion = strconv.Itoa(f.version)
	delete(f.pods, id)
	f.tell("pods", "DELETED", pod)
}

// SetNode changes the Node, which is made where there is none.
func (f *API) SetNode(change func(*corev1.Node)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	if f.node == nil {
		f.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}}
	} else {
		f.node = f.node.DeepCopy()
	}
	change(f.node)
	f.node.ResourceVersion = strconv.Itoa(f.version)
	f.tell("nodes", "MODIFIED", f.node)
}

// Node returns the Node as it is now, not to be changed; nil: there is none.
func (f *API) Node() *corev1.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.node
}

// Pods returns the pods that are here now, by namespace/name. They are not to be changed.
func (f *API) Pods() map[string]*corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.pods)
}

// Version returns the resourceVersion of the latest change.
func (f *API) Version() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// Forget drops all pods, and the history that a watch could go on with.
func (f *API) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events, f.pods = nil, map[string]*corev1.Pod{}
}

// Cut ends every watch, as a restart of the API server does.
func (f *API) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		close(w.feed)
	}
	f.watchers = nil
}

// Expire ends every watch with 410 Gone, as when the API server no longer has the versions since.
func (f *API) Expire() {
	f.mu.Lock()
	for _, w := range f.watchers {
		frame, _ := json.Marshal(map[string]any{"type": "ERROR", "object": withKind(&apierrors.NewResourceExpired("too old").ErrStatus)})
		w.feed <- append(frame, '\n')
	}
	f.mu.Unlock()
}

func (f *API) tell(kind, what string, object runtime.Object) {
	frame, err := json.Marshal(map[string]any{"type": what, "object": withKind(object)})
	if err != nil {
		f.t.Error(err)
	}
	frame = append(frame, '\n')
	f.events = append(f.events, event{f.version, kind, frame})
	for _, w := range f.watchers {
		if w.kind == kind {
			w.feed <- frame
		}
	}
}

// RoundTrip answers a request.
func (f *API) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	watching := req.URL.Query().Get("watch") == "true"
	f.mu.Lock()
	f.log = append(f.log, Request{req.Method, req.URL.Path, watching, time.Now(), string(body)})
	before, after := f.Before, f.After
	f.mu.Unlock()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if before != nil {
		if resp, err := before(req); resp != nil || err != nil {
			return resp, err
		}
	}
	resp := f.serve(req, body, watching)
	if after != nil {
		return after(req, resp)
	}
	return resp, nil
}

func (f *API) serve(req *http.Request, body []byte, watching bool) *http.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	selector := req.URL.Query().Get("fieldSelector")
	switch {
	case req.URL.Path == "/api/v1/pods" && selector == "spec.nodeName=n1":
		if watching {
			return f.serveWatch(req, "pods")
		}
		list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(f.version)}}
		for _, pod := range f.pods {
			list.Items = append(list.Items, *pod)
		}
		return Reply(http.StatusOK, list)
	case req.URL.Path == "/api/v1/nodes" && selector == "metadata.name=n1":
		if watching {
			return f.serveWatch(req, "nodes")
		}
		list := &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(f.version)}}
		if f.node != nil {
			list.Items = append(list.Items, *f.node)
		}
		return Reply(http.StatusOK, list)
	case req.URL.Path == "/api/v1/nodes/n1":
		return f.serveNode(req, body)
	case strings.HasSuffix(req.URL.Path, "/eviction"):
		return f.serveEviction(path[3], path[5], body)
	case len(path) == 6 && path[4] == "pods" && req.Method == http.MethodDelete:
		return f.serveDelete(path[3], path[5], body)
	case len(path) == 6 && path[4] == "persistentvolumeclaims" && f.Claims[path[3]+"/"+path[5]] != "":
		return Reply(http.StatusOK, &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + path[3] + "." + path[5]}})
	case len(path) == 4 && path[2] == "persistentvolumes":
		driver, handle, _ := strings.Cut(f.Claims[strings.ReplaceAll(strings.TrimPrefix(path[3], "pv-"), ".", "/")], " ")
		return Reply(http.StatusOK, &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}},
		}})
	case len(path) == 7 && path[5] == "daemonsets":
		if !f.Sets[path[4]+"/"+path[6]] {
			return Refuse(apierrors.NewNotFound(schema.GroupResource{Group: "apps", Resource: "daemonsets"}, path[6]))
		}
		return Reply(http.StatusOK, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: path[4], Name: path[6]}})
	}
	// What the Node authorizer says to anything else.
	return Refuse(apierrors.NewForbidden(schema.GroupResource{Resource: "?"}, req.URL.String(), fmt.Errorf("not for a node")))
}

func (f *API) serveNode(req *http.Request, body []byte) *http.Response {
	nodes := schema.GroupResource{Resource: "nodes"}
	if f.node == nil {
		return Refuse(apierrors.NewNotFound(nodes, "n1"))
	}
	if req.Method == http.MethodGet {
		return Reply(http.StatusOK, f.node)
	}
	var sent corev1.Node
	if err := json.Unmarshal(body, &sent); err != nil || req.Header.Get("Content-Type") != string(types.MergePatchType) {
		return Refuse(apierrors.NewBadRequest(fmt.Sprintf("patch %s: %v", body, err)))
	}
	if sent.ResourceVersion != f.node.ResourceVersion {
		return Refuse(apierrors.NewConflict(nodes, "n1", fmt.Errorf("resourceVersion %q", sent.ResourceVersion)))
	}
	var current, patch map[string]any
	asNow, _ := json.Marshal(f.node)
	_ = json.Unmarshal(asNow, &current)
	_ = json.Unmarshal(body, &patch)
	merged, _ := json.Marshal(MergePatch(current, patch))
	next := &corev1.Node{}
	if err := json.Unmarshal(merged, next); err != nil {
		return Refuse(apierrors.NewBadRequest(err.Error()))
	}
	f.version++
	next.ResourceVersion = strconv.Itoa(f.version)
	f.node = next
	f.tell("nodes", "MODIFIED", next)
	return Reply(http.StatusOK, next)
}

// MergePatch is RFC 7386.
func MergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			inner, _ := target[key].(map[string]any)
			target[key] = MergePatch(inner, value)
		default:
			target[key] = value
		}
	}
	return target
}

func (f *API) serveEviction(namespace, name string, body []byte) *http.Response {
	id := namespace + "/" + name
	pod := f.pods[id]
	if pod == nil {
		return Refuse(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
	}
	var eviction policyv1.Eviction
	if err := json.Unmarshal(body, &eviction); err != nil || eviction.Name != name {
		return Refuse(apierrors.NewBadRequest("name in URL does not match name in Eviction object"))
	}
	uid := eviction.DeleteOptions.Preconditions.UID
	f.attempts[*uid]++
	if f.Evict != nil {
		if no := f.Evict(pod, f.attempts[*uid]); no != nil {
			return Refuse(no)
		}
	}
	if *uid != pod.UID {
		return Refuse(apierrors.NewConflict(schema.GroupResource{Resource: "Pod"}, name, fmt.Errorf("the UID in the precondition does not match")))
	}
	if len(eviction.DeleteOptions.DryRun) == 0 {
		f.terminate(pod, eviction.DeleteOptions)
	}
	return Reply(http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess})
}

func (f *API) serveDelete(namespace, name string, body []byte) *http.Response {
	pod := f.pods[namespace+"/"+name]
	var opts metav1.DeleteOptions
	if err := json.Unmarshal(body, &opts); err != nil || opts.Preconditions == nil || opts.Preconditions.UID == nil {
		return Refuse(apierrors.NewBadRequest("a deletion of any pod of this name"))
	}
	switch {
	case pod == nil:
		return Refuse(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
	case pod.UID != *opts.Preconditions.UID:
		return Refuse(apierrors.NewConflict(schema.GroupResource{Resource: "Pod"}, name, fmt.Errorf("the UID in the precondition does not match")))
	}
	f.terminate(pod, &opts)
	return Reply(http.StatusOK, f.pods[namespace+"/"+name])
}

func (f *API) terminate(pod *corev1.Pod, opts *metav1.DeleteOptions) {
	id := pod.Namespace + "/" + pod.Name
	grace := int64(30)
	if s := opts.GracePeriodSeconds; s != nil {
		grace = *s
	}
	f.version++
	pod = pod.DeepCopy()
	pod.ResourceVersion = strconv.Itoa(f.version)
	end := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &grace
	f.pods[id] = pod
	f.tell("pods", "MODIFIED", pod)
	if stop := f.Stop(pod); stop >= 0 {
		time.AfterFunc(stop, func() { f.RemovePod(pod.Namespace, pod.Name, pod.UID) })
	}
}

func (f *API) serveWatch(req *http.Request, kind string) *http.Response {
	r, w := io.Pipe()
	mine := &watcher{kind: kind, pipe: w, feed: make(chan []byte, 10000)}
	f.watchers = append(f.watchers, mine)
	from, err := strconv.Atoi(req.URL.Query().Get("resourceVersion"))
	if err != nil {
		f.t.Errorf("watch without a resourceVersion: %s", req.URL)
	}
	for _, e := range f.events {
		if e.kind == kind && e.version > from {
			mine.feed <- e.frame
		}
	}
	gone := make(chan struct{})
	context.AfterFunc(req.Context(), func() {
		f.mu.Lock()
		f.watchers = slices.DeleteFunc(f.watchers, func(o *watcher) bool { return o == mine })
		f.mu.Unlock()
		close(gone)
		r.CloseWithError(req.Context().Err())
	})
	go func() {
		defer w.Close()
		for {
			select {
			case <-gone:
				return
			case frame, open := <-mine.feed:
				if !open {
					return
				}
				if _, err := w.Write(frame); err != nil {
					return
				}
			}
		}
	}()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: r,
	}
}

// Reply is an answer with this code and object.
func Reply(code int, object runtime.Object) *http.Response {
	b, err := json.Marshal(withKind(object))
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(b)),
	}
}

// Refuse replies as the API server does, Retry-After header included.
func Refuse(err *apierrors.StatusError) *http.Response {
	resp := Reply(int(err.ErrStatus.Code), &err.ErrStatus)
	if d := err.ErrStatus.Details; d != nil && d.RetryAfterSeconds > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	return resp
}

func withKind(object runtime.Object) runtime.Object {
	object = object.DeepCopyObject()
	gvk := schema.GroupVersionKind{Version: "v1"}
	switch object.(type) {
	case *corev1.Pod:
		gvk.Kind = "Pod"
	case *corev1.PodList:
		gvk.Kind = "PodList"
	case *corev1.Node:
		gvk.Kind = "Node"
	case *corev1.NodeList:
		gvk.Kind = "NodeList"
	case *corev1.PersistentVolumeClaim:
		gvk.Kind = "PersistentVolumeClaim"
	case *corev1.PersistentVolume:
		gvk.Kind = "PersistentVolume"
	case *appsv1.DaemonSet:
		gvk.Group, gvk.Kind = "apps", "DaemonSet"
	case *metav1.Status:
		gvk.Kind = "Status"
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object
}
