package node

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

func TestReleaseOf(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	whole := Release{By: "alice", Why: "the node is broken", At: at, Boot: bootA}
	long := strings.Repeat("ä", 150)
	for _, tt := range []struct {
		name, text string
		want       Release
		says       string
	}{
		{"as written", whole.encode(), whole, "lock released by alice: the node is broken"},
		{"more keys", `{"v":2,"by":"a","why":"b","at":"x","boot":"?"}`, Release{By: "a", Why: "b"}, "lock released by a: b"},
		{"boot id of the kernel's form", `{"by":"a","why":"b","at":"2026-11-22T13:00:00+01:00","boot":"AAAAAAAA-aaaa-aaaa-aaaa-aaaaaaaaaaaa"}`,
			Release{By: "a", Why: "b", At: at, Boot: bootA}, "lock released by a: b"},
		{"several lines", "{\"by\":\"a\\n\\tb\u202e\",\"why\":\"\\u001b[31mred\\u001b[0m\\u0000\"}", Release{By: "a b", Why: "[31mred [0m"}, "lock released by a b: [31mred [0m"},
		{"long", `{"by":"a","why":"` + long + `"}`, Release{By: "a", Why: strings.Repeat("ä", 98) + "…"}, ""},
		{"a lot of it", `{"by":"a","why":"` + strings.Repeat("x", maxNote) + `"}`, Release{}, ""},
		{"nobody", `{"why":"b"}`, Release{}, "lock released by somebody whose note on the Node (annotation kured.dev/released) cannot be read"},
		{"no reason", `{"by":"a","why":" \n"}`, Release{}, ""},
		{"not JSON", "alice", Release{}, ""},
		{"empty", "", Release{}, ""},
		{"of another kind", `{"by":1,"why":"b"}`, Release{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obj := &corev1.Node{}
			obj.Annotations = map[string]string{ReleasedAnnotation: tt.text}
			got := stateOf(obj).Released
			if got == nil || !got.At.Equal(tt.want.At) || got.By != tt.want.By || got.Why != tt.want.Why || got.Boot != tt.want.Boot {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
			if tt.says != "" && got.String() != tt.says {
				t.Errorf("says %q, want %q", got, tt.says)
			}
			if len(got.Why) > maxNoteText || !utf8.ValidString(got.Why) {
				t.Errorf("%d bytes: %q", len(got.Why), got.Why)
			}
		})
	}
	if r := stateOf(&corev1.Node{}).Released; r != nil {
		t.Errorf("a note out of nothing: %+v", r)
	}
}

// Whatever stands in the annotation, it is a line that can be shown, and what is written is read back.
func FuzzReleaseOf(f *testing.F) {
	f.Add(`{"by":"a","why":"b","at":"2026-11-22T12:00:00Z","boot":"` + bootA + `"}`)
	f.Add("{\"by\":\"\xff\u202e\",\"why\":\"" + strings.Repeat("€", 90) + "\"}")
	f.Fuzz(func(t *testing.T, text string) {
		obj := &corev1.Node{}
		obj.Annotations = map[string]string{ReleasedAnnotation: text}
		r := releaseOf(obj)
		if line := r.String(); len(line) > 500 || !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x00\x1b") {
			t.Errorf("%q", line)
		}
		if r.By == "" {
			return
		}
		obj.Annotations[ReleasedAnnotation] = r.encode()
		if again := releaseOf(obj); again.By != r.By || again.Why != r.Why || again.Boot != r.Boot {
			t.Errorf("%+v reads back as %+v", r, again)
		}
	})
}

// The note goes with the mark in one write; without the mark it goes alone, and nothing is said to be uncordoned.
func TestUncordonTakesTheNoteOff(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  cordoned
		after   cordoned
		changed bool
	}{
		{"our cordon", cordoned{true, bootA}, cordoned{}, true},
		{"a person's cordon", cordoned{true, ""}, cordoned{true, ""}, false},
		{"no cordon", cordoned{}, cordoned{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := fakeapi.New(t)
			api.SetNode(tt.before.put)
			api.SetNode(func(obj *corev1.Node) { obj.Annotations[ReleasedAnnotation] = "damaged" })
			n := New(api.Client(), "n1", bootA)
			for i := range 2 {
				changed, err := n.Uncordon(t.Context(), bootA)
				if want := tt.changed && i == 0; err != nil || changed != want {
					t.Errorf("call %d: %v, %v; want %v", i, changed, err, want)
				}
			}
			s, err := n.Get(t.Context())
			if err != nil || s.Released != nil {
				t.Errorf("then %+v, %v", s.Released, err)
			}
			if got := cordonedOn(t, api); got != tt.after {
				t.Errorf("Node is %+v, want %+v", got, tt.after)
			}
			if got := api.Requests(http.MethodPatch, ""); len(got) != 1 || !tt.changed && strings.Contains(got[0].Body, "unschedulable") {
				t.Errorf("writes %+v", got)
			}
		})
	}
}
