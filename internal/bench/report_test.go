package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kured-host/kured/internal/testenv"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	for _, c := range []struct {
		all  []time.Duration
		p    float64
		want time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{[]time.Duration{3, 1, 2}, 50, 2},
		{[]time.Duration{3, 1, 2}, 99, 3},
		{[]time.Duration{7}, 1, 7},
	} {
		if got := percentile(c.all, c.p); got != c.want {
			t.Errorf("percentile %g of %d values: %d, want %d", c.p, len(c.all), got, c.want)
		}
	}
}

func TestFiguresAgainstTheirBudgets(t *testing.T) {
	for _, c := range []struct {
		got  figure
		want figure
	}{
		{atMost("a", 36, 31.44, "%.1f MB"), figure{"a", "≤ 36 MB", "31.4 MB", "", "", within}},
		{atMost("b", 0, 1, "%.0f"), figure{"b", "0", "1", "", "", over}},
		{atMost("c", 21, 20.5, "%.1f s").against(20.5, 41, "%.1f s"), figure{"c", "≤ 21 s", "20.5 s", "41.0 s", "0.50", within}},
		{delays("d", 100*time.Millisecond, []time.Duration{time.Millisecond, 101 * time.Millisecond}),
			figure{"d", "p99 ≤ 100 ms", "p50 1 ms, p99 101 ms (of 2)", "", "", over}},
	} {
		if c.got != c.want {
			t.Errorf("got %+v, want %+v", c.got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	r := report{figures: []figure{atMost("size", 36, 31.4, "%.1f MB")}, requests: "Requests: none.\n"}
	got := r.markdown()
	for _, want := range []string{
		"| figure | budget  | measured | kubectl in the same run | ratio | within? |\n|--------|",
		"| size   | ≤ 36 MB | 31.4 MB  | –                       | –     | ok      |\n\nRequests: none.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout\n%s", got, want)
		}
	}
}

// Only what is between the two lines is written anew, again and again.
func TestReplaceSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + sectionBegin + "old\n" + sectionEnd + "after\n")
	for _, text := range []string{"first\n", "second\n"} {
		if err := replaceSection(path, text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := "before\n" + sectionBegin + text + sectionEnd + "after\n"; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	write("nothing to replace\n")
	if err := replaceSection(path, "x"); err == nil {
		t.Error("a document without the lines was written")
	}
}

// The shipped document has the place that is written.
func TestDocumentHasTheSection(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, ok := strings.Cut(string(text), sectionBegin); !ok || !strings.Contains(rest, sectionEnd) {
		t.Errorf("it needs the lines %q and %q", sectionBegin, sectionEnd)
	}
}

func TestRequestsOfACycle(t *testing.T) {
	figures, list := countCycle([]testenv.Request{
		{Verb: "get", Resource: "configmaps"},
		{Verb: "patch", Resource: "configmaps"},
		{Verb: "create", Resource: "pods", Subresource: "eviction"},
		{Verb: "create", Resource: "pods", Subresource: "eviction"},
		{Verb: "patch", Resource: "nodes"},
	})
	if figures[0].measured != "1" || figures[1].measured != "3" {
		t.Errorf("got %+v", figures)
	}
	want := "Requests of that cycle, by kind:\n2 create pods/eviction,\n1 get configmaps,\n1 patch configmaps,\n1 patch nodes.\n"
	if list != want {
		t.Errorf("got %q, want %q", list, want)
	}
}
