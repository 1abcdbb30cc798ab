package nodes

import (
	"context"
	"fmt"
	"time"
)

// Poll calls check now and then every interval until it tells true or fails. If ctx ends first, the error
// wraps its cause.
func Poll(ctx context.Context, interval time.Duration, check func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if ok, err := check(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
