package cycle

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kured-host/kured/internal/lock"
	"github.com/kured-host/kured/internal/node"
	"github.com/kured-host/kured/internal/status"
)

func TestReasonOf(t *testing.T) {
	what := schema.GroupResource{Resource: "configmaps"}
	for _, c := range []struct {
		err  error
		want status.Reason
	}{
		{errors.New("connection refused"), status.APIUnreachable},
		{apierrors.NewInternalError(errors.New("etcd is slow")), status.APIUnreachable},
		{apierrors.NewTooManyRequests("busy", 1), status.APIUnreachable},
		{apierrors.NewForbidden(what, "kured-lock", nil), status.APIForbidden},
		{apierrors.NewUnauthorized("who?"), status.APIForbidden},
		{apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, "kured-lock", nil), status.APIRefused}, // an admission policy says so
		{lock.ErrMissing, status.LockMissing},
		{lock.ErrUnreadable, status.EntryForeign},
		{node.ErrNotFound, status.NodeMissing},
		{status.Because(status.LogindUnavailable, errors.New("no bus")), status.LogindUnavailable},
	} {
		if got := ReasonOf(fmt.Errorf("write lock: %w", c.err)); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
