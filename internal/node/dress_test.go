package node

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"

	"github.com/kured-host/kured/internal/testenv/fakeapi"
)

// wearing is the part of a Node that a Dress and a cordon are about; values that kured writes down for itself are left out.
type wearing struct {
	cordoned
	labels, annotations map[string]string
}

func (w wearing) put(obj *corev1.Node) {
	w.cordoned.put(obj)
	obj.Labels = maps.Clone(w.labels)
	maps.Copy(obj.Annotations, w.annotations)
}

func wearingOn(t *testing.T, api *fakeapi.API) wearing {
	t.Helper()
	w := wearing{cordoned: cordonedOn(t, api), labels: map[string]string{}, annotations: map[string]string{}}
	obj := api.Node()
	maps.Copy(w.labels, obj.Labels)
	for key, value := range obj.Annotations {
		if key != "other" && key != MarkAnnotation && key != DressedAnnotation {
			w.annotations[key] = value
		}
	}
	return w
}

func (w wearing) equal(o wearing) bool {
	return w.cordoned == o.cordoned && maps.Equal(w.labels, o.labels) && maps.Equal(w.annotations, o.annotations)
}

const lb = corev1.LabelNodeExcludeBalancers

type texts = map[string]string

// The whole way of a dress: on with the cordon in boot A, off again in the same boot (rolled back) and, told apart, in boot B
// (came back).
func TestDress(t *testing.T) {
	pair := Dress{
		LabelsBefore: texts{"state": "rebooting", "only-before": "x"}, LabelsAfter: texts{"state": "ready", "only-after": "y"},
		AnnotationsBefore: texts{"note": "down", "only-before": "x"}, AnnotationsAfter: texts{"note": "up"},
	}
	on := texts{"state": "rebooting", "only-before": "x"}
	noteOn := texts{"note": "down", "only-before": "x"}
	person, nobody := cordoned{true, ""}, cordoned{}
	for _, tt := range []struct {
		name                        string
		dress                       Dress
		before, on, rolled, returns wearing
		meanwhile                   func(*corev1.Node) // what somebody does between
	}{
		{
			name: "a fresh Node", dress: pair,
			before: wearing{}, on: wearing{cordoned{true, bootA}, on, noteOn}, rolled: wearing{},
			returns: wearing{nobody, texts{"state": "ready", "only-after": "y"}, texts{"note": "up"}},
		},
		{
			name: "a person's cordon stays, and the dress is the same", dress: pair,
			before: wearing{cordoned: person}, on: wearing{person, on, noteOn}, rolled: wearing{cordoned: person},
			returns: wearing{person, texts{"state": "ready", "only-after": "y"}, texts{"note": "up"}},
		},
		{
			name: "other values before", dress: pair,
			before:  wearing{nobody, texts{"state": "ready", "z": "z"}, texts{"note": "up", "only-before": "theirs"}},
			on:      wearing{cordoned{true, bootA}, texts{"state": "rebooting", "only-before": "x", "z": "z"}, noteOn},
			rolled:  wearing{nobody, texts{"state": "ready", "z": "z"}, texts{"note": "up", "only-before": "theirs"}},
			returns: wearing{nobody, texts{"state": "ready", "only-after": "y", "z": "z"}, texts{"note": "up"}},
		},
		{
			name: "somebody writes meanwhile", dress: pair, before: wearing{nobody, texts{"state": "ready"}, nil},
			on: wearing{cordoned{true, bootA}, on, noteOn},
			meanwhile: func(obj *corev1.Node) {
				obj.Labels["only-before"] = "theirs"
				obj.Labels["state"] = "theirs"
				delete(obj.Annotations, "note")
			},
			rolled:  wearing{nobody, texts{"only-before": "theirs", "state": "theirs"}, nil},
			returns: wearing{nobody, texts{"only-before": "theirs", "state": "ready", "only-after": "y"}, texts{"note": "up"}},
		},
		{
			name: "only after", dress: Dress{LabelsAfter: texts{"state": "ready"}},
			on: wearing{cordoned: cordoned{true, bootA}}, rolled: wearing{}, returns: wearing{nobody, texts{"state": "ready"}, nil},
		},
		{
			name: "only after, under a person's cordon", dress: Dress{LabelsAfter: texts{"state": "ready"}},
			before: wearing{cordoned: person}, on: wearing{cordoned: person}, rolled: wearing{cordoned: person},
			returns: wearing{person, texts{"state": "ready"}, nil},
		},
		{
			name: "load balancers", dress: Dress{ExcludeFromLoadBalancers: true},
			on: wearing{cordoned{true, bootA}, texts{lb: "true"}, nil},
		},
		{
			name: "load balancers: the label of a person stays", dress: Dress{ExcludeFromLoadBalancers: true},
			before: wearing{nobody, texts{lb: ""}, nil}, on: wearing{cordoned{true, bootA}, texts{lb: ""}, nil},
			rolled: wearing{nobody, texts{lb: ""}, nil}, returns: wearing{nobody, texts{lb: ""}, nil},
		},
		{
			name: "what is there already is not ours", dress: Dress{LabelsBefore: texts{"state": "rebooting"}},
			before: wearing{nobody, texts{"state": "rebooting"}, nil}, on: wearing{cordoned{true, bootA}, texts{"state": "rebooting"}, nil},
			rolled: wearing{nobody, texts{"state": "rebooting"}, nil}, returns: wearing{},
		},
		{
			name: "a person uncordons meanwhile and takes the mark", dress: pair, on: wearing{cordoned{true, bootA}, on, noteOn},
			meanwhile: func(obj *corev1.Node) { obj.Spec.Unschedulable = false; delete(obj.Annotations, MarkAnnotation) },
			rolled:    wearing{}, returns: wearing{nobody, texts{"state": "ready", "only-after": "y"}, texts{"note": "up"}},
		},
		{
			name: "somebody damages the record: nothing is known to be ours any more", dress: pair, on: wearing{cordoned{true, bootA}, on, noteOn},
			meanwhile: func(obj *corev1.Node) { obj.Annotations[DressedAnnotation] = "{" },
			rolled:    wearing{nobody, on, noteOn},
			returns:   wearing{nobody, texts{"state": "ready", "only-before": "x", "only-after": "y"}, texts{"note": "up", "only-before": "x"}},
		},
	} {
		for _, boot := range []string{bootA, bootB} {
			want, how := tt.rolled, "rolled back"
			if boot == bootB {
				want, how = tt.returns, "came back"
			}
			t.Run(tt.name+", "+how, func(t *testing.T) {
				api := fakeapi.New(t)
				api.SetNode(tt.before.put)
				n := New(api.Client(), "n1", bootA, WithDress(tt.dress))
				for range 2 {
					if marked, err := n.Cordon(t.Context()); err != nil || marked != (tt.on.mark != "") {
						t.Fatalf("Cordon = %v, %v", marked, err)
					}
				}
				if got := wearingOn(t, api); !got.equal(tt.on) {
					t.Errorf("cordoned: %+v\nwant %+v", got, tt.on)
				}
				if tt.meanwhile != nil {
					api.SetNode(tt.meanwhile)
				}
				// Without what it wore, or with what another process of a later boot wears, nothing happens.
				was := wearingOn(t, api)
				for _, mark := range []string{"", bootB} {
					if changed, err := n.Uncordon(t.Context(), mark); changed || err != nil || !wearingOn(t, api).equal(was) {
						t.Errorf("Uncordon(%q) = %v, %v: %+v", mark, changed, err, wearingOn(t, api))
					}
				}
				s, err := n.Get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				mark := s.Mark
				if mark == "" {
					mark = s.Dressed
				}
				n = New(api.Client(), "n1", boot, WithDress(tt.dress))
				for i := range 2 {
					if changed, err := n.Uncordon(t.Context(), mark); err != nil || changed != (i == 0 && s.Mark != "") {
						t.Errorf("Uncordon = %v, %v", changed, err)
					}
				}
				if got := wearingOn(t, api); !got.equal(want) {
					t.Errorf("%s: %+v\nwant %+v", how, got, want)
				}
				if s, err := n.Get(t.Context()); s.Dressed != "" || s.Mark != "" || err != nil {
					t.Errorf("left over: %+v, %v", s, err)
				}
				if got := len(api.Requests(http.MethodPatch, "")); got != 2 {
					t.Errorf("%d writes, want one on and one off", got)
				}
			})
		}
	}
}

// What was put on in a boot that nobody came back from properly is taken over, with what it was at the very first.
func TestDressLeftOver(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(wearing{labels: texts{"a": "first", "gone": "first"}}.put)
	_, err := New(api.Client(), "n1", bootB, WithDress(Dress{
		LabelsBefore: texts{"a": "{boot}", "gone": "x"}, Reason: func() string { return "old" },
	})).Cordon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := New(api.Client(), "n1", bootA, WithDress(Dress{LabelsBefore: texts{"a": "{boot}", "b": "new{reason}"}})) // configured anew
	if _, err := n.Cordon(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := wearing{cordoned{true, bootA}, texts{"a": bootA, "b": "new", "gone": "x"}, nil}
	if got := wearingOn(t, api); !got.equal(want) {
		t.Errorf("cordoned: %+v\nwant %+v", got, want)
	}
	if _, err := New(api.Client(), "n1", bootA).Uncordon(t.Context(), bootA); err != nil { // and once more: nothing is configured
		t.Fatal(err)
	}
	if got, want := wearingOn(t, api), (wearing{labels: texts{"a": "first", "gone": "first"}}); !got.equal(want) {
		t.Errorf("rolled back: %+v\nwant %+v", got, want)
	}
}

// Under a person's cordon nothing but the record tells of which boot the dress is, also when none is configured any more.
func TestDressLeftOverUnderAPersonsCordon(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(wearing{cordoned: cordoned{true, ""}, labels: texts{"a": "first"}}.put)
	for _, n := range []*Node{
		New(api.Client(), "n1", bootB, WithDress(Dress{LabelsBefore: texts{"a": "x"}})), New(api.Client(), "n1", bootA),
	} {
		if marked, err := n.Cordon(t.Context()); marked || err != nil {
			t.Fatalf("Cordon = %v, %v", marked, err)
		}
	}
	n := New(api.Client(), "n1", bootA)
	if s, err := n.Get(t.Context()); s.Dressed != bootA || err != nil {
		t.Errorf("state %+v, %v; want it dressed in boot %s", s, err, bootA)
	}
	if _, err := n.Uncordon(t.Context(), bootA); err != nil {
		t.Fatal(err)
	}
	if got, want := wearingOn(t, api), (wearing{cordoned{true, ""}, texts{"a": "first"}, nil}); !got.equal(want) {
		t.Errorf("rolled back: %+v\nwant %+v", got, want)
	}
}

// Words in braces, in the two forms; a repetition keeps the moment of the first time, and the reason outlives the reboot.
func TestDressWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fakeapi.New(t)
		api.SetNode(wearing{}.put)
		reason := "linux-image-6.1.0-40 größe/2\n" + strings.Repeat("long", 30)
		dress := Dress{
			LabelsBefore:      texts{"l": "at-{time}", "r": "{reason}.{boot}", "e": "x-{reason}"},
			LabelsAfter:       texts{"l": "{reason}"},
			AnnotationsBefore: texts{"a": "{time} {boot} {reason} {else}"}, AnnotationsAfter: texts{"a": "{time} {boot} {reason}"},
			Reason: func() string { return reason },
		}
		n := New(api.Client(), "n1", bootA, WithDress(dress))
		at := time.Now().UTC()
		if _, err := n.Cordon(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		reason = "another"
		if _, err := n.Cordon(t.Context()); err != nil {
			t.Fatal(err)
		}
		long := "linux-image-6.1.0-40 größe/2 " + strings.Repeat("long", 30)
		got := wearingOn(t, api)
		want := wearing{cordoned{true, bootA}, texts{
			"l": at.Format("at-2006-01-02T15-04-05Z"), "r": "linux-image-6.1.0-40-gr--e-2-l." + bootA,
			"e": "x-linux-image-6.1.0-40-gr--e-2-" + strings.Repeat("long", 8),
		}, texts{"a": at.Format(time.RFC3339) + " " + bootA + " " + long + " {else}"}}
		if want.labels["r"] = "linux-image-6.1.0-40-gr--e-2-l"[:30] + "." + bootA; !got.equal(want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		later := time.Now().UTC()
		if _, err := New(api.Client(), "n1", bootB, WithDress(dress)).Uncordon(t.Context(), bootA); err != nil {
			t.Fatal(err)
		}
		want = wearing{cordoned{}, texts{"l": "linux-image-6.1.0-40-gr--e-2-" + strings.Repeat("long", 8) + "lo"},
			texts{"a": later.Format(time.RFC3339) + " " + bootB + " " + long}}
		if got := wearingOn(t, api); !got.equal(want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
}

// The write is carried out and its reply lost, or another write comes between: what is remembered stays right.
func TestDressUnderTrouble(t *testing.T) {
	dress := Dress{LabelsBefore: texts{"state": "{time}"}, LabelsAfter: texts{"state": "up"}, ExcludeFromLoadBalancers: true}
	trouble := map[string]func(api *fakeapi.API, n int) error{
		"the reply is lost": func(*fakeapi.API, int) error { return errors.New("connection reset by peer") },
		"somebody writes first": func(api *fakeapi.API, n int) error {
			api.SetNode(func(obj *corev1.Node) { obj.Labels = maps.Clone(obj.Labels); obj.Labels["n"] = "x" })
			return nil
		},
	}
	for name, happens := range trouble {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := fakeapi.New(t)
				api.SetNode(wearing{labels: texts{"state": "was", "n": ""}}.put)
				count := 0
				hook := func(req *http.Request) error {
					if req.Method == http.MethodPatch {
						if count++; count%2 == 1 {
							return happens(api, count)
						}
					}
					return nil
				}
				if name == "the reply is lost" {
					api.After = func(req *http.Request, resp *http.Response) (*http.Response, error) { return resp, hook(req) }
				} else {
					api.Before = func(req *http.Request) (*http.Response, error) { return nil, hook(req) }
				}
				n := New(api.Client(), "n1", bootA, WithDress(dress))
				if _, err := n.Cordon(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := n.Uncordon(t.Context(), bootA); err != nil {
					t.Fatal(err)
				}
				want := texts{"state": "was", "n": ""}
				if name != "the reply is lost" {
					want["n"] = "x"
				}
				if got := wearingOn(t, api); !maps.Equal(got.labels, want) || got.unschedulable || len(got.annotations) > 0 {
					t.Errorf("got %+v, want %v", got, want)
				}
			})
		})
	}
}

func TestDressForgetsWhatIsTooLong(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(wearing{annotations: texts{"note": strings.Repeat("x", maxWorn+1)}}.put)
	n := New(api.Client(), "n1", bootA, WithDress(Dress{AnnotationsBefore: texts{"note": "down"}}))
	if _, err := n.Cordon(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Uncordon(t.Context(), bootA); err != nil {
		t.Fatal(err)
	}
	if got := wearingOn(t, api); len(got.annotations) > 0 {
		t.Errorf("got %+v", got)
	}
}

// Whatever stands in the annotation and in the template, what is written is something that the API server takes, and the
// Node ends without our record.
func FuzzDress(f *testing.F) {
	f.Add(`{"boot":"`+bootA+`","reason":"r","labels":{"a":{"is":"b","was":"c"}},"annotations":{"x":{"is":"y"}}}`, "{reason}-{time}", "linux\x00")
	f.Add(`{"boot":1}`, "{boot}{boot}", "€")
	f.Fuzz(func(t *testing.T, text, template, reason string) {
		dress := Dress{LabelsBefore: texts{"a": template}, LabelsAfter: texts{"b": template}, Reason: func() string { return reason }}
		if CheckDress(dress, "", true) != nil {
			return
		}
		obj := &corev1.Node{}
		obj.Annotations, obj.Labels = texts{DressedAnnotation: text}, texts{"a": "b"}
		r, there := recordOf(obj)
		if !there || !utf8.ValidString(r.Reason) || len(r.Reason) > maxNoteText {
			t.Fatalf("%+v %v", r, there)
		}
		apply := func(patch []byte) {
			var current, change map[string]any
			asNow, _ := json.Marshal(obj)
			_ = json.Unmarshal(asNow, &current)
			_ = json.Unmarshal(patch, &change)
			merged, _ := json.Marshal(fakeapi.MergePatch(current, change))
			obj = &corev1.Node{}
			if err := json.Unmarshal(merged, obj); err != nil {
				t.Fatal(err)
			}
		}
		patch, marked := cordonPatch(obj, dress, bootA, time.Unix(0, 0))
		apply(patch)
		if errs := content.IsLabelValue(obj.Labels["a"]); !marked || len(errs) > 0 && r.Boot != bootA {
			t.Errorf("label %q: %v", obj.Labels["a"], errs)
		}
		if again, _ := cordonPatch(obj, dress, bootA, time.Unix(1e6, 0)); again != nil {
			t.Errorf("written again: %s", again)
		}
		apply(uncordonPatch(obj, dress, bootA, bootB, time.Unix(0, 0)))
		if _, there := recordOf(obj); there || markOf(obj) != "" || len(content.IsLabelValue(obj.Labels["b"])) > 0 {
			t.Errorf("left over: %+v", obj.ObjectMeta)
		}
	})
}

func TestDressEndsWithItsContext(t *testing.T) {
	api := fakeapi.New(t)
	api.SetNode(wearing{}.put)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(api.Client(), "n1", bootA, WithDress(Dress{ExcludeFromLoadBalancers: true})).Cordon(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
