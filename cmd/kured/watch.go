package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/kured-host/kured/internal/control"
	"github.com/kured-host/kured/internal/fleet"
	"github.com/kured-host/kured/internal/present"
	"github.com/kured-host/kured/internal/status"
)

// watchStatus tells each change until it is interrupted, and ends with the code
// of what it told last.
func watchStatus(cmd *cobra.Command, o statusOptions) error {
	var last present.Heard
	show := present.Follow(cmd.OutOrStdout(), o.output, time.Now)
	err := keepShowing(cmd.Context(), listenTo(control.Client{Path: o.socket}), func(h present.Heard, _ bool) error {
		last = h
		return show(h)
	})
	switch {
	case cmd.Context().Err() == nil:
		return asDaemonError(err)
	case last.Down != nil:
		return asDaemonError(last.Down)
	}
	return exitState(last.Status)
}

// watchAll shows the fleet and what changes in it until it is interrupted.
func watchAll(cmd *cobra.Command, o statusOptions, all fleet.Fleet) error {
	err := keepShowing(cmd.Context(), all.Watch, present.FollowFleet(cmd.OutOrStdout(), o.output, time.Now))
	if cmd.Context().Err() != nil {
		return nil
	}
	return asDaemonError(err)
}

// keepShowing shows what follow passes on, and what was shown last again every
// second: a time such as "for 3s" goes on where it is drawn anew. It ends with
// follow, or with an error of show.
func keepShowing[T any](ctx context.Context, follow func(ctx context.Context, pass func(T) error) error, show func(v T, again bool) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, ended := make(chan T), make(chan error, 1)
	go func() {
		ended <- follow(ctx, func(v T) error {
			select {
			case changes <- v:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last T
	for heard := false; ; {
		again := false
		select {
		case last = <-changes:
			heard = true
		case <-tick.C:
			if again = true; !heard {
				continue
			}
		case err := <-ended:
			return err
		}
		if err := show(last, again); err != nil {
			cancel()
			<-ended
			return err
		}
	}
}

// retryEvery is how often a daemon that is down is asked again.
const retryEvery = time.Second

// listenTo passes on what a daemon says until ctx ends. One that goes away is waited for.
func listenTo(daemon control.Client) func(context.Context, func(present.Heard) error) error {
	return func(ctx context.Context, pass func(present.Heard) error) error {
		for {
			err := daemon.Watch(ctx, func(s status.Status) error { return pass(present.Heard{Status: s}) })
			if !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			if err := pass(present.Heard{Down: err}); err != nil {
				return err
			}
			select {
			case <-time.After(retryEvery):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
