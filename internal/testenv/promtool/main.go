// Command promtool runs Debian's promtool with the arguments that it is given,
// and fetches it before when it is not there yet. The scripts of .ci check the
// metrics and the rules with it:
//
//	go run ./internal/testenv/promtool check rules packaging/monitoring/kured-alerts.yaml
package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/kured-host/kured/internal/testenv/prometheus"
)

func main() {
	path, err := prometheus.Promtool(context.Background(), os.Stderr)
	if err == nil {
		err = syscall.Exec(path, append([]string{"promtool"}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "promtool:", err)
	os.Exit(1)
}
