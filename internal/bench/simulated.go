package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// simulate takes the figures that the simulation of the lock prints: thousands
// of nodes in virtual time, which no machine has room for.
func simulate(ctx context.Context) (section, error) {
	c := exec.CommandContext(ctx, "go", "test", "./internal/sim", "-run", "^TestScale$", "-v", "-count=1", "-timeout", "30m", "-args", "-figures")
	output, err := c.CombinedOutput()
	if err != nil {
		return section{}, fmt.Errorf("%w: %s", err, output[max(0, len(output)-2000):])
	}
	return simulated(output)
}

// fleetFigures are what the simulation found for one number of nodes, by name.
type fleetFigures map[string]string

// simulated makes a table of the lines "figure: nodes=10 limit=1 NAME=VALUE …".
func simulated(output []byte) (section, error) {
	var all []fleetFigures
	for line := range bytes.Lines(output) {
		_, text, ok := strings.Cut(string(line), "figure: ")
		if !ok {
			continue
		}
		f := fleetFigures{}
		for _, field := range strings.Fields(text) {
			name, value, ok := strings.Cut(field, "=")
			if !ok {
				return section{}, fmt.Errorf("a figure of the simulation is not NAME=VALUE: %q in %q", field, text)
			}
			f[name] = value
		}
		for _, name := range []string{"nodes", "limit", "turns", "writes_per_reboot", "conflicts_at_opening", "conflicts_per_reboot_later",
			"outside_reads_per_minute", "object_bytes_with_managed_fields", "hand_off_p50", "hand_off_p99", "lost_per_hand_off", "overtaken_in_room", "overtaken_outside"} {
			if f[name] == "" {
				return section{}, fmt.Errorf("the simulation does not tell its %s: %q", name, text)
			}
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return section{}, errors.New("the simulation prints no figures")
	}
	column := func(f fleetFigures) string { return f["nodes"] + " nodes, limit " + f["limit"] }
	return compare("The lock in large fleets, simulated", all, column, []line[fleetFigures]{
		told("reboots", "–", "turns", nil),
		told("lock writes per reboot", "≤ 8", "writes_per_reboot", numberUpTo(8)),
		told("lost writes (conflicts) per reboot", "≤ 0.2", "conflicts_per_reboot_later", numberUpTo(0.2)),
		told("lost writes in the first minute, all nodes together", "–", "conflicts_at_opening", nil),
		told("looks of one outside, a minute", "–", "outside_reads_per_minute", nil),
		told("bytes of the lock object as JSON, at most", "≤ 4096 with one holder", "object_bytes_with_managed_fields", func(f fleetFigures, value string) bool {
			return f["limit"] != "1" || numberUpTo(4096)(f, value)
		}),
		told("slot is free → next node holds, p50", "–", "hand_off_p50", nil),
		told("slot is free → next node holds, p99", "≤ 250 ms", "hand_off_p99", func(_ fleetFigures, value string) bool {
			d, err := time.ParseDuration(value)
			return err == nil && d <= 250*time.Millisecond
		}),
		told("time lost per hand-off, in the mean", "–", "lost_per_hand_off", nil),
		told("largest overtaking in the waiting room", "–", "overtaken_in_room", nil),
		told("largest overtaking of all who wait", "–", "overtaken_outside", nil),
	}), nil
}

// told is a line of a figure; ok, if there is a budget, judges it.
func told(name, budget, key string, ok func(fleetFigures, string) bool) line[fleetFigures] {
	return line[fleetFigures]{name, budget, func(f fleetFigures) (string, verdict) {
		if ok == nil {
			return f[key], noBudget
		}
		return f[key], keeps(ok(f, f[key]))
	}}
}

func numberUpTo(limit float64) func(fleetFigures, string) bool {
	return func(_ fleetFigures, value string) bool {
		n, err := strconv.ParseFloat(value, 64)
		return err == nil && n <= limit
	}
}
