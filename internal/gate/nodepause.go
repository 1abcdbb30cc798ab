package gate

import (
	"context"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// pauseAnnotation on our Node pauses this node. Its text is that of ParseNote.
const pauseAnnotation = "kured.dev/pause"

// OwnNode is what NodePause asks of our Node.
type OwnNode interface {
	// PauseText reads the text of the annotation kured.dev/pause, nil if there is none.
	PauseText(ctx context.Context) (*string, error)
}

// NodePause is open while no annotation on our Node pauses it.
type NodePause struct {
	Node OwnNode
	Now  func() time.Time
}

// Name implements Gate.
func (NodePause) Name() status.Gate { return status.GateNodePause }

// Check reads the Node.
func (g NodePause) Check(ctx context.Context, _ Moment) Verdict {
	text, err := g.Node.PauseText(ctx)
	switch {
	case err != nil:
		return Verdict{Reason: status.PauseUnreadable, Detail: "whether this node is paused cannot be read: " + status.Clean(err.Error(), longest)}
	case text == nil:
		return Verdict{Open: true}
	}
	return paused(*text, "annotation "+pauseAnnotation, g.Now())
}
