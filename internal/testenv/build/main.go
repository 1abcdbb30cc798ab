// Command build builds the control plane that the tests and the demonstration
// use, unless it is there already, and prints its path. To build it before
// "go test" keeps the minutes that this takes out of the tests' time-out, and
// shows its progress.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/kured-host/kured/internal/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := testenv.Binary(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
