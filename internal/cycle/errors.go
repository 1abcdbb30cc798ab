package cycle

import (
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

// ReasonOf finds the word for an error of an effector. Everything that is not
// the API server's own no counts as not reached, its troubles (5xx, 429) too.
func ReasonOf(err error) status.Reason {
	var known interface{ Reason() status.Reason }
	var answer apierrors.APIStatus
	switch {
	case errors.As(err, &known):
		return known.Reason()
	case errors.Is(err, lock.ErrMissing):
		return status.LockMissing
	case errors.Is(err, lock.ErrUnreadable):
		return status.EntryForeign
	case errors.Is(err, node.ErrNotFound):
		return status.NodeMissing
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return status.APIForbidden
	case errors.As(err, &answer) && answer.Status().Code/100 == 4 && !apierrors.IsTooManyRequests(err):
		return status.APIRefused
	}
	return status.APIUnreachable
}
