// Package conntrack stands in for github.com/mwitkow/go-conntrack, with which
// github.com/prometheus/common/config counts and traces its connections. Nobody
// looks at these counts here, and the traces' pages of golang.org/x/net/trace
// execute html/template, which keeps the linker from dropping unused methods:
// without this package kured is 20 MB larger.
//
// It has what that package calls and nothing else, so that an update which
// calls more is noticed by the compiler.
package conntrack

import (
	"context"
	"net"
)

// DialContext is the function of a net.Dialer.
type DialContext = func(ctx context.Context, network, address string) (net.Conn, error)

// Option is an option of NewDialContextFunc.
type Option func(DialContext) DialContext

// NewDialContextFunc returns the function that connects, without counting.
func NewDialContextFunc(options ...Option) DialContext {
	dial := new(net.Dialer).DialContext
	for _, option := range options {
		dial = option(dial)
	}
	return dial
}

// DialWithDialContextFunc has connections made by dial.
func DialWithDialContextFunc(dial DialContext) Option {
	return func(DialContext) DialContext { return dial }
}

// DialWithName does nothing: it would name what is counted.
func DialWithName(string) Option { return unchanged }

// DialWithTracing does nothing.
func DialWithTracing() Option { return unchanged }

func unchanged(dial DialContext) DialContext { return dial }
