package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// fakeAPI is a small API server behind an http.RoundTripper: exact codes and bodies, no sockets, so that it
// works under testing/synctest. It knows one Node, pods, DaemonSets and evictions.
type fakeAPI struct {
	t *testing.T

	mu       sync.Mutex
	version  int
	node     *corev1.Node
	pods     map[string]*corev1.Pod // by namespace/name
	sets     map[string]bool        // DaemonSets that exist, by namespace/name
	claims   map[string]string      // bound PersistentVolumeClaims, by namespace/name: the CSI driver and handle, with a space
	events   []fakeEvent
	watchers []*fakeWatcher
	log      []fakeRequest

	// evict answers an eviction; nil accepts it. The pod terminates as stop says.
	evict func(pod *corev1.Pod, attempt int) *apierrors.StatusError
	// stop is how long a pod takes from its eviction until it is gone; negative: for ever.
	stop func(pod *corev1.Pod) time.Duration
	// before may answer any request instead of the server (resp or err not nil).
	before func(req *http.Request) (*http.Response, error)
	// after may replace the reply of a request that was carried out: a lost reply.
	after func(req *http.Request, resp *http.Response) (*http.Response, error)

	attempts map[types.UID]int
}

type fakeRequest struct {
	method, path string
	watch        bool
	at           time.Time
	body         string
}

type fakeEvent struct {
	version int
	kind    string
	frame   []byte
}

type fakeWatcher struct {
	kind string
	pipe *io.PipeWriter
	feed chan []byte
}

func newFakeAPI(t *testing.T) *fakeAPI {
	return &fakeAPI{
		t: t, pods: map[string]*corev1.Pod{}, sets: map[string]bool{}, attempts: map[types.UID]int{},
		stop: func(*corev1.Pod) time.Duration { return 10 * time.Second },
	}
}

func (f *fakeAPI) client() kubernetes.Interface {
	f.t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api.invalid", Transport: f, QPS: -1})
	if err != nil {
		f.t.Fatal(err)
	}
	return client
}

// requests returns the requests whose path contains part and whose method is method ("": any).
func (f *fakeAPI) requests(method, part string) []fakeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []fakeRequest
	for _, r := range f.log {
		if (method == "" || r.method == method) && strings.Contains(r.path, part) {
			out = append(out, r)
		}
	}
	return out
}

func (f *fakeAPI) addPod(pod *corev1.Pod) *corev1.Pod {
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

func (f *fakeAPI) removePod(namespace, name string, uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(namespace+"/"+name, uid)
}

func (f *fakeAPI) removeLocked(id string, uid types.UID) {
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

func (f *fakeAPI) setNode(change func(*corev1.Node)) {
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

// cut ends every watch, as a restart of the API server does.
func (f *fakeAPI) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		close(w.feed)
	}
	f.watchers = nil
}

// expire ends every watch with 410 Gone, as when the API server no longer has the versions since.
func (f *fakeAPI) expire() {
	f.mu.Lock()
	for _, w := range f.watchers {
		frame, _ := json.Marshal(map[string]any{"type": "ERROR", "object": withKind(&apierrors.NewResourceExpired("too old").ErrStatus)})
		w.feed <- append(frame, '\n')
	}
	f.mu.Unlock()
}

func (f *fakeAPI) tell(kind, what string, object runtime.Object) {
	frame, err := json.Marshal(map[string]any{"type": what, "object": withKind(object)})
	if err != nil {
		f.t.Error(err)
	}
	frame = append(frame, '\n')
	f.events = append(f.events, fakeEvent{f.version, kind, frame})
	for _, w := range f.watchers {
		if w.kind == kind {
			w.feed <- frame
		}
	}
}

func (f *fakeAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	watching := req.URL.Query().Get("watch") == "true"
	f.mu.Lock()
	f.log = append(f.log, fakeRequest{req.Method, req.URL.Path, watching, time.Now(), string(body)})
	before, after := f.before, f.after
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

func (f *fakeAPI) serve(req *http.Request, body []byte, watching bool) *http.Response {
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
		return reply(http.StatusOK, list)
	case req.URL.Path == "/api/v1/nodes" && selector == "metadata.name=n1":
		if watching {
			return f.serveWatch(req, "nodes")
		}
		list := &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(f.version)}}
		if f.node != nil {
			list.Items = append(list.Items, *f.node)
		}
		return reply(http.StatusOK, list)
	case req.URL.Path == "/api/v1/nodes/n1":
		return f.serveNode(req, body)
	case strings.HasSuffix(req.URL.Path, "/eviction"):
		return f.serveEviction(path[3], path[5], body)
	case len(path) == 6 && path[4] == "pods" && req.Method == http.MethodDelete:
		return f.serveDelete(path[3], path[5], body)
	case len(path) == 6 && path[4] == "persistentvolumeclaims" && f.claims[path[3]+"/"+path[5]] != "":
		return reply(http.StatusOK, &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + path[3] + "." + path[5]}})
	case len(path) == 4 && path[2] == "persistentvolumes":
		driver, handle, _ := strings.Cut(f.claims[strings.ReplaceAll(strings.TrimPrefix(path[3], "pv-"), ".", "/")], " ")
		return reply(http.StatusOK, &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}},
		}})
	case len(path) == 7 && path[5] == "daemonsets":
		if !f.sets[path[4]+"/"+path[6]] {
			return refuse(apierrors.NewNotFound(schema.GroupResource{Group: "apps", Resource: "daemonsets"}, path[6]))
		}
		return reply(http.StatusOK, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: path[4], Name: path[6]}})
	}
	// What the Node authorizer says to anything else.
	return refuse(apierrors.NewForbidden(schema.GroupResource{Resource: "?"}, req.URL.String(), fmt.Errorf("not for a node")))
}

func (f *fakeAPI) serveNode(req *http.Request, body []byte) *http.Response {
	nodes := schema.GroupResource{Resource: "nodes"}
	if f.node == nil {
		return refuse(apierrors.NewNotFound(nodes, "n1"))
	}
	if req.Method == http.MethodGet {
		return reply(http.StatusOK, f.node)
	}
	var sent corev1.Node
	if err := json.Unmarshal(body, &sent); err != nil || req.Header.Get("Content-Type") != string(types.MergePatchType) {
		return refuse(apierrors.NewBadRequest(fmt.Sprintf("patch %s: %v", body, err)))
	}
	if sent.ResourceVersion != f.node.ResourceVersion {
		return refuse(apierrors.NewConflict(nodes, "n1", fmt.Errorf("resourceVersion %q", sent.ResourceVersion)))
	}
	var current, patch map[string]any
	asNow, _ := json.Marshal(f.node)
	_ = json.Unmarshal(asNow, &current)
	_ = json.Unmarshal(body, &patch)
	merged, _ := json.Marshal(mergePatch(current, patch))
	next := &corev1.Node{}
	if err := json.Unmarshal(merged, next); err != nil {
		return refuse(apierrors.NewBadRequest(err.Error()))
	}
	f.version++
	next.ResourceVersion = strconv.Itoa(f.version)
	f.node = next
	f.tell("nodes", "MODIFIED", next)
	return reply(http.StatusOK, next)
}

// mergePatch is RFC 7386.
func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			inner, _ := target[key].(map[string]any)
			target[key] = mergePatch(inner, value)
		default:
			target[key] = value
		}
	}
	return target
}

func (f *fakeAPI) serveEviction(namespace, name string, body []byte) *http.Response {
	id := namespace + "/" + name
	pod := f.pods[id]
	if pod == nil {
		return refuse(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
	}
	var eviction policyv1.Eviction
	if err := json.Unmarshal(body, &eviction); err != nil || eviction.Name != name {
		return refuse(apierrors.NewBadRequest("name in URL does not match name in Eviction object"))
	}
	uid := eviction.DeleteOptions.Preconditions.UID
	f.attempts[*uid]++
	if f.evict != nil {
		if no := f.evict(pod, f.attempts[*uid]); no != nil {
			return refuse(no)
		}
	}
	if *uid != pod.UID {
		return refuse(apierrors.NewConflict(schema.GroupResource{Resource: "Pod"}, name, fmt.Errorf("the UID in the precondition does not match")))
	}
	if len(eviction.DeleteOptions.DryRun) == 0 {
		f.terminate(pod, eviction.DeleteOptions)
	}
	return reply(http.StatusCreated, &metav1.Status{Status: metav1.StatusSuccess})
}

func (f *fakeAPI) serveDelete(namespace, name string, body []byte) *http.Response {
	pod := f.pods[namespace+"/"+name]
	var opts metav1.DeleteOptions
	if err := json.Unmarshal(body, &opts); err != nil || opts.Preconditions == nil || opts.Preconditions.UID == nil {
		return refuse(apierrors.NewBadRequest("a deletion of any pod of this name"))
	}
	switch {
	case pod == nil:
		return refuse(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
	case pod.UID != *opts.Preconditions.UID:
		return refuse(apierrors.NewConflict(schema.GroupResource{Resource: "Pod"}, name, fmt.Errorf("the UID in the precondition does not match")))
	}
	f.terminate(pod, &opts)
	return reply(http.StatusOK, f.pods[namespace+"/"+name])
}

func (f *fakeAPI) terminate(pod *corev1.Pod, opts *metav1.DeleteOptions) {
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
	if stop := f.stop(pod); stop >= 0 {
		time.AfterFunc(stop, func() { f.removePod(pod.Namespace, pod.Name, pod.UID) })
	}
}

func (f *fakeAPI) serveWatch(req *http.Request, kind string) *http.Response {
	r, w := io.Pipe()
	watcher := &fakeWatcher{kind: kind, pipe: w, feed: make(chan []byte, 10000)}
	f.watchers = append(f.watchers, watcher)
	from, err := strconv.Atoi(req.URL.Query().Get("resourceVersion"))
	if err != nil {
		f.t.Errorf("watch without a resourceVersion: %s", req.URL)
	}
	for _, e := range f.events {
		if e.kind == kind && e.version > from {
			watcher.feed <- e.frame
		}
	}
	gone := make(chan struct{})
	context.AfterFunc(req.Context(), func() {
		f.mu.Lock()
		f.watchers = slices.DeleteFunc(f.watchers, func(o *fakeWatcher) bool { return o == watcher })
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
			case frame, open := <-watcher.feed:
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

func reply(code int, object runtime.Object) *http.Response {
	b, err := json.Marshal(withKind(object))
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(b)),
	}
}

// refuse replies as the API server does, Retry-After header included.
func refuse(err *apierrors.StatusError) *http.Response {
	resp := reply(int(err.ErrStatus.Code), &err.ErrStatus)
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
