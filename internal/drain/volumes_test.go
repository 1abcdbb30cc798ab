package drain

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func uses(volumes ...corev1.Volume) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Volumes = volumes }
}

func claim(name string) corev1.Volume {
	return corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
}

// inUse sets what the kubelet says is mounted, and what the controller says is attached.
func inUse(mounted, attached string) func(*corev1.Node) {
	return func(obj *corev1.Node) {
		obj.Status.VolumesInUse, obj.Status.VolumesAttached = nil, nil
		for _, name := range strings.Fields(mounted) {
			obj.Status.VolumesInUse = append(obj.Status.VolumesInUse, corev1.UniqueVolumeName("kubernetes.io/csi/"+name))
		}
		for _, name := range strings.Fields(attached) {
			obj.Status.VolumesAttached = append(obj.Status.VolumesAttached, corev1.AttachedVolume{Name: corev1.UniqueVolumeName("kubernetes.io/csi/" + name)})
		}
	}
}

func TestAwaitDetached(t *testing.T) {
	const still = "1 volume still attached: kubernetes.io/csi/disk^b"
	for _, tt := range []struct {
		name   string
		script func(api *fakeapi.API)
		took   time.Duration
		left   string
		told   []string
		pods   int // lists of pods
	}{
		{name: "none", script: func(api *fakeapi.API) { api.SetNode(inUse("", "")) }, told: []string{""}},
		{
			name: "unmounted, then detached", script: func(api *fakeapi.API) {
				api.SetNode(inUse("disk^b", "disk^b disk^c"))
				time.AfterFunc(3*time.Second, func() { api.SetNode(inUse("", "disk^b disk^c")) })
				time.AfterFunc(5*time.Second, func() { api.SetNode(inUse("", "disk^b")) })
				time.AfterFunc(9*time.Second, func() { api.SetNode(inUse("", "")) })
			}, took: 9 * time.Second, pods: 1,
			told: []string{"2 volumes still attached: kubernetes.io/csi/disk^b; kubernetes.io/csi/disk^c", still, ""},
		},
		{
			name: "never detached", script: func(api *fakeapi.API) { api.SetNode(inUse("", "disk^b")) },
			took: 2 * time.Minute, left: still, told: []string{still}, pods: 1,
		},
		{
			// Of a pod that stays, by its claim or as a volume of its own; one of a driver that calls its volumes otherwise.
			name: "of pods that stay", script: func(api *fakeapi.API) {
				api.Claims = map[string]string{"sys/data": "disk a", "sys/store-0-scratch": "ssd vol-7", "sys/old": "disk b", "sys/dead": "disk b"}
				own := corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
				api.AddPod(testPod("sys", "store-0", uses(claim("data"), claim("unbound"), own, corev1.Volume{})))
				api.AddPod(testPod("sys", "going", uses(claim("old")), deleted(time.Minute)))
				api.AddPod(testPod("sys", "finished", uses(claim("dead")), finished))
				api.SetNode(inUse("disk^a ssd^vol-7", "disk^a ssd^vol-7 disk^b"))
				time.AfterFunc(time.Second, func() { api.SetNode(inUse("disk^a ssd^vol-7", "disk^a ssd^vol-7")) })
			}, took: time.Second, told: []string{still, ""}, pods: 1,
		},
		{
			name: "pods cannot be listed at first", script: func(api *fakeapi.API) {
				api.Claims = map[string]string{"sys/data": "disk b"}
				api.AddPod(testPod("sys", "store-0", uses(claim("data"))))
				api.SetNode(inUse("", "disk^b"))
				begun := time.Now()
				api.Before = func(req *http.Request) (*http.Response, error) {
					if strings.HasSuffix(req.URL.Path, "/pods") && time.Since(begun) < time.Second {
						return fakeapi.Refuse(forbidden("pods", "")), nil
					}
					return nil, nil
				}
			}, took: volumesRetry, pods: 2,
			told: []string{still + `; the volumes cannot be told: list the pods of node n1: pods is forbidden: no right`, ""},
		},
		{
			name: "no such Node", script: func(*fakeapi.API) {}, took: 2 * time.Minute,
			left: "the cluster has no Node of this name", told: []string{"the cluster has no Node of this name"},
		},
		{
			name: "no API server", script: func(api *fakeapi.API) {
				api.Before = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
			}, took: 2 * time.Minute, left: "the volumes cannot be told: list: Get",
			told: []string{"the volumes cannot be told: list: Get"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			api := fakeapi.New(t)
			tt.script(api)
			var told []string
			begun := time.Now()
			left, err := PodsOf(api.Client(), "n1").AwaitDetached(t.Context(), 2*time.Minute, func(v Volumes) { told = append(told, v.String()) })
			if took := time.Since(begun); err != nil || !strings.HasPrefix(left.String(), tt.left) || left.Gone() != (tt.left == "") || took != tt.took {
				t.Errorf("%s: %q, %v after %s", tt.name, left, err, took)
			}
			matches := len(told) == len(tt.told)
			for i := 0; matches && i < len(told); i++ {
				matches = strings.HasPrefix(told[i], tt.told[i]) && (told[i] == "") == (tt.told[i] == "")
			}
			if !matches {
				t.Errorf("%s: told %q, want %q", tt.name, told, tt.told)
			}
			if n := len(api.Requests("", "/api/v1/pods")); n < tt.pods || n > 2*tt.pods {
				t.Errorf("%s: pods were listed %d times, want about %d", tt.name, n, tt.pods)
			}
		})
	}
}

func TestAwaitDetachedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(inUse("", "disk^b"))
		why := errors.New("the sentinel is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		left, err := PodsOf(api.Client(), "n1").AwaitDetached(ctx, time.Minute, nil)
		if !errors.Is(err, why) || len(left.Attached) != 1 {
			t.Errorf("%v, %v", left, err)
		}
		asked := len(api.Requests("", ""))
		if left, err := PodsOf(api.Client(), "n1").AwaitDetached(t.Context(), 0, nil); err != nil || !left.Gone() || len(api.Requests("", "")) != asked {
			t.Errorf("without patience: %v, %v", left, err)
		}
	})
}
