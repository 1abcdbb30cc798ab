package drain_test

import (
	"os"
	"testing"

	"github.com/kured-host/kured/internal/drain"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/testenv"
	"github.com/kured-host/kured/internal/testenv/lab"
)

var plane lab.Plane

func TestMain(m *testing.M) { os.Exit(plane.Main(m)) }

// kured is what the daemon has of its Node: the object, and the pods.
type kured struct {
	*node.Node
	*drain.Pods
}

// kuredOn is that on a machine.
func kuredOn(t *testing.T, l *lab.Lab, m *testenv.Node) kured {
	t.Helper()
	bootID, err := node.NormalizeBootID(m.BootID())
	l.Must(err)
	client := l.Kured(m)
	return kured{node.New(client, m.Name(), bootID), drain.PodsOf(client, m.Name())}
}

func stateOf(t *testing.T, k kured) node.State {
	t.Helper()
	state, err := k.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}
