package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/gate"
	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/status"
)

var update = flag.Bool("update", false, "write the stories' histories anew")

// TestStories tells what happens in a cluster in so many words. Above the line
// "---" of a story stands what is done to the cluster, below it what comes of
// it. With -update the part below is written anew; look at the difference.
//
//	nodes 3 max=2 zone=eu-1 …   so many nodes, with that in their kured.toml (also
//	                            room, priority, min_ready, count_unavailable)
//	node a zone=eu-2 …          one of them differs
//	at 5m want a b              at a time; the verbs are in storyVerbs
//	until 1h                    the end
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, want, _ := strings.Cut(string(text), "\n---\n")
			setup, err := readStory(head)
			if err != nil {
				t.Fatal(err)
			}
			w := tell(t, setup)
			for _, broken := range w.Broken() {
				t.Error(broken)
			}
			got := w.story()
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimSpace(head)+"\n---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("another history than in %s (go test ./internal/sim -run TestStories -update writes it anew):\n%s", file, parting(want, got))
			}
		})
	}
}

// parting shows where two texts part.
func parting(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("%s\nwant:\n%s\ngot:\n%s", strings.Join(a[max(0, i-5):i], "\n"), strings.Join(a[i:min(i+5, len(a))], "\n"), strings.Join(b[i:min(i+5, len(b))], "\n"))
}

// story is the history in whole seconds, and what is left at the end.
func (w *World) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	last := ""
	for _, e := range w.events {
		text := fmt.Sprintf(e.format, e.args...)
		if strings.Contains(text, "at the end of the history") || e.at < 5*time.Second {
			continue
		}
		at := strings.Split(clock(e.at), ".")[0]
		shown := at
		if at == last {
			shown = ""
		}
		last = at
		text = strings.Replace(text, "    journal: ", "says: ", 1)
		fmt.Fprintf(&b, "%8s  %-8s %s\n", shown, e.who, text)
	}
	b.WriteString("at the end:\n")
	data := w.object.newest().data
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(&b, "  lock: %s %s\n", key, brief(key, data[key]))
	}
	for _, m := range w.machines {
		line := "off"
		if m.up && m.daemon != nil {
			line = m.daemon.status.Line()
		}
		if n := w.nodes[m.name]; n == nil {
			line += "; no Node"
		} else if n.unschedulable {
			line += "; cordoned"
		}
		fmt.Fprintf(&b, "  %s, boot %d: %s\n", m.name, m.boot, line)
	}
	return b.String()
}

func readStory(head string) (Setup, error) {
	s := Setup{Seed: 1, Wall: true, Short: true, Journal: true, Storm: time.Hour, Faults: Faults{Latency: 4 * time.Millisecond, Lag: 4 * time.Millisecond}}
	for line := range strings.Lines(head) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if err := s.read(words); err != nil {
			return s, fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	return s, nil
}

func (s *Setup) read(words []string) error {
	switch words[0] {
	case "nodes":
		n, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		c := Config{Max: intstr.FromInt32(1), Room: 8}
		if err := c.read(words[2:]); err != nil {
			return err
		}
		for range n {
			s.Configs = append(s.Configs, c)
		}
	case "node":
		return s.Configs[index(words[1])].read(words[2:])
	case "until":
		var err error
		s.Storm, err = time.ParseDuration(words[1])
		return err
	case "at":
		at, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		verb, known := storyVerbs[words[2]]
		if !known {
			return fmt.Errorf("unknown verb %q", words[2])
		}
		steps := [][]string{words[3:]}
		if perMachine[words[2]] {
			steps = slices.Collect(slices.Chunk(words[3:], 1)) // each at an instant of its own
		}
		for _, args := range steps {
			s.Plan = append(s.Plan, Planned{at, func(w *World) { verb(w, args) }})
		}
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	return nil
}

// index is the machine of a letter.
func index(letter string) int { return int(letter[0] - 'a') }

func (c *Config) read(words []string) (err error) {
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "max":
			c.Max = intstr.Parse(value)
		case "min_ready":
			c.MinReady = intstr.Parse(value)
		case "room":
			c.Room, err = strconv.Atoi(value)
		case "priority":
			c.Priority, err = strconv.Atoi(value)
		case "zone":
			c.Zone = value
		case "count_unavailable":
			c.CountUnavailable, err = strconv.ParseBool(value)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// perMachine are the verbs that take a list of machines.
var perMachine = map[string]bool{"want": true, "unwant": true, "close": true, "open": true, "restart": true, "never-returns": true, "boot": true,
	"delete-node": true, "cordon": true, "uncordon": true}

// storyVerbs are what can be done to the cluster. mu is held.
var storyVerbs = map[string]func(w *World, args []string){
	"want":   one(func(m *machine) { m.want(true) }),
	"unwant": one(func(m *machine) { m.want(false) }),
	"drain": func(w *World, args []string) { // drain a 40m: a drain takes so long
		w.machines[index(args[0])].drainFor = duration(args[1])
	},
	"logind": func(w *World, args []string) { // logind a refuses
		w.machines[index(args[0])].logind = rebootMode(strings.Join(args[1:], " "))
	},
	"close": one(func(m *machine) {
		m.setGate(gate.Verdict{Reason: status.LogindUnavailable, Detail: "the maintenance window is closed"})
	}),
	"open": one(func(m *machine) { m.setGate(gate.Verdict{Open: true}) }),
	"kill": func(w *World, args []string) { // kill a 10m: for so long
		m := w.machines[index(args[0])]
		m.daemon.kill("by somebody")
		m.startDaemon(duration(args[1]))
	},
	"restart": one(func(m *machine) { m.restart() }),
	"power-cut": func(w *World, args []string) { // power-cut a 2m; without a time: it does not come back
		m := w.machines[index(args[0])]
		w.note(m.name, "power cut")
		if m.lost = len(args) == 1; m.lost {
			m.powerOff(0)
			return
		}
		m.powerOff(duration(args[1]))
	},
	"never-returns": one(func(m *machine) { m.lost = true; m.w.note(m.name, "will not come back from its next reboot") }),
	"boot":          one(func(m *machine) { m.bootUp() }),
	"delete-node":   one(func(m *machine) { m.w.deleteNode(m) }),
	"cordon":        one(func(m *machine) { m.w.person(m, true) }),
	"uncordon":      one(func(m *machine) { m.w.person(m, false) }),
	"release": func(w *World, args []string) { // release a WHY
		w.release(w.machines[index(args[0])], strings.Join(args[1:], " "), time.Second)
	},
	"policy": func(w *World, args []string) { // policy max=2; paused=some_reason; freeze=10m..20m
		data := map[string]string{}
		for _, arg := range args {
			key, value, _ := strings.Cut(arg, "=")
			if from, until, ok := strings.Cut(value, ".."); ok {
				value = w.start.Add(duration(from)).Format(time.RFC3339) + "/" + w.start.Add(duration(until)).Format(time.RFC3339)
			}
			data[key] = strings.ReplaceAll(value, "_", " ")
		}
		w.setPolicy(data)
	},
	"put": func(w *World, args []string) { // put KEY VALUE
		w.object.put("admin", "by hand", lock.Edit{Set: map[string]string{args[0]: strings.Join(args[1:], " ")}})
	},
	"remove": func(w *World, args []string) {
		w.object.put("admin", "by hand", lock.Edit{Remove: args})
	},
	"config": func(w *World, args []string) { // config a max=2: kured.toml, and a restart
		m := w.machines[index(args[0])]
		if err := m.cfg.read(args[1:]); err != nil {
			panic(err)
		}
		w.note(m.name, "kured.toml: %s", strings.Join(args[1:], " "))
		m.restart()
	},
	"api-away": func(w *World, _ []string) { w.outage = true; w.note("api", "is away") },
	"api-back": func(w *World, _ []string) { w.outage = false; w.note("api", "is back") },
}

func one(do func(m *machine)) func(*World, []string) {
	return func(w *World, letters []string) { do(w.machines[index(letters[0])]) }
}

func duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return d
}
