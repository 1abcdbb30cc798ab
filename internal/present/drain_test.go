package present

import (
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/drain"
)

func TestDrain(t *testing.T) {
	web := drain.HeldPod{Namespace: "shop", Name: "web-7", Why: drain.WhyBudget, Budget: "web", Detail: "needs 2 healthy, has 2"}
	cache := drain.HeldPod{Namespace: "shop", Name: "cache", Why: drain.WhyPolicy, Detail: "it would lose the data of its emptyDir volumes"}
	full := drain.Report{
		Tiers: []drain.Tier{
			{Name: "not system-critical", Pods: []string{"shop/db-0", "shop/web-7"}, Leaving: []drain.LeavingPod{
				{Namespace: "shop", Name: "db-0", Owner: "StatefulSet db", Grace: 10 * time.Minute}, {Namespace: "shop", Name: "web-7", Owner: "ReplicaSet web-5d", Grace: 30 * time.Second}}},
			{Name: "system-critical", Pods: []string{"kube-system/dns-1"}, Leaving: []drain.LeavingPod{{Namespace: "kube-system", Name: "dns-1", Terminating: true}}},
		},
		Staying:  []drain.StayingPod{{Namespace: "kube-system", Name: "etcd-n1", Why: "static pod"}, {Namespace: "kube-system", Name: "proxy-1", Why: "DaemonSet proxy\x1b[2J"}},
		Held:     []drain.HeldPod{web},
		Unknown:  []drain.HeldPod{{Namespace: "shop", Name: "hooked", Why: drain.WhyRefused, Detail: `admission webhook "w" does not support dry run`}},
		Together: []string{"5 pods of ReplicaSet shop/web"},
	}
	for _, c := range []struct {
		name string
		r    drain.Report
		want string
	}{
		{"nothing here", drain.Report{}, `
node node-a: a drain would go through now
no pod has to leave
`},
		{"held up", full, `
node node-a: a drain would be held up now

2 pods leave, not system-critical:
  shop/db-0   stops within 10m0s  StatefulSet db
  shop/web-7  stops within 30s    ReplicaSet web-5d

then 1 pod leaves, system-critical:
  kube-system/dns-1  is stopping already  nobody makes it anew

2 pods stay:
  kube-system/etcd-n1  static pod
  kube-system/proxy-1  DaemonSet proxy [2J

1 pod would be held now:
  pod shop/web-7 held by PodDisruptionBudget shop/web: needs 2 healthy, has 2

1 pod cannot be told by a dry run:
  pod shop/hooked not evicted: refused: admission webhook "w" does not support dry run

asked about one by one; a budget may let fewer go at a time:
  5 pods of ReplicaSet shop/web

A drain asks again until drain.timeout, 30m0s, is over; then: release (drain.on_timeout).
`},
		{"refused", drain.Report{Refused: []drain.HeldPod{cache}}, `
node node-a: a drain would not begin: there are pods that may not be evicted

1 pod may not be evicted, so nothing would be:
  pod shop/cache may not be evicted: it would lose the data of its emptyDir volumes
`},
		{"not known", drain.Report{Tiers: full.Tiers[:0], Unknown: full.Unknown}, `
node node-a: a dry run does not tell whether a drain would go through
no pod has to leave

1 pod cannot be told by a dry run:
  pod shop/hooked not evicted: refused: admission webhook "w" does not support dry run

A drain asks again until drain.timeout, 30m0s, is over; then: release (drain.on_timeout).
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := Drain(&b, Text, "node-a", drain.Options{Timeout: 30 * time.Minute, OnTimeout: drain.GiveUp}, c.r); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}
