package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What is passed on is shown, and again every second, but not before there is something.
func TestKeepShowing(t *testing.T) {
	broken := errors.New("broken")
	follow := func(end error) func(context.Context, func(int) error) error {
		return func(ctx context.Context, pass func(int) error) error {
			for i := 1; i <= 2; i++ {
				select {
				case <-time.After(2300 * time.Millisecond):
				case <-ctx.Done():
					return ctx.Err()
				}
				if err := pass(i); err != nil {
					return err
				}
			}
			time.Sleep(1300 * time.Millisecond)
			return end
		}
	}
	for _, c := range []struct {
		name  string
		limit time.Duration // until it is interrupted
		fails int           // the value at which show does
		want  []string
		err   error
	}{
		{"to its end", time.Hour, 0, []string{"2.3s 1", "3s 1 again", "4s 1 again", "4.6s 2", "5s 2 again"}, broken},
		{"cannot be shown", time.Hour, 1, []string{"2.3s 1"}, broken},
		{"interrupted", 3500 * time.Millisecond, 0, []string{"2.3s 1", "3s 1 again"}, context.DeadlineExceeded},
		{"interrupted before anything", time.Second / 2, 0, nil, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.limit)
				defer cancel()
				begin := time.Now()
				var shown []string
				err := keepShowing(ctx, follow(broken), func(v int, again bool) error {
					line := fmt.Sprint(time.Since(begin), " ", v)
					if again {
						line += " again"
					}
					shown = append(shown, line)
					if v == c.fails {
						return broken
					}
					return nil
				})
				if !errors.Is(err, c.err) || !slices.Equal(shown, c.want) {
					t.Errorf("got %q, %v; want %q, %v", shown, err, c.want, c.err)
				}
			})
		})
	}
}
