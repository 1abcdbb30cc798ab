// Command generate writes what is made from a source into the checkout in the
// working directory: `make docs`.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/kured-host/kured/internal/reference"
)

func main() {
	changed, err := reference.Write(".")
	slices.Sort(changed)
	for _, name := range changed {
		fmt.Println(name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
