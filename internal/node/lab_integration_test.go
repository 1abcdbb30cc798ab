package node_test

import (
	"os"
	"testing"

	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
)

var plane lab.Plane

func TestMain(m *testing.M) { os.Exit(plane.Main(m)) }

// kuredOn is the Node as kured on that machine has it.
func kuredOn(t *testing.T, l *lab.Lab, m *testenv.Node) *node.Node {
	t.Helper()
	bootID, err := node.NormalizeBootID(m.BootID())
	l.Must(err)
	return node.New(l.Kured(m), m.Name(), bootID)
}

func stateOf(t *testing.T, n *node.Node) node.State {
	t.Helper()
	state, err := n.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}
