package config

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/kured-host/kured/internal/schedule"
)

// Calendar is the windows and freezes, each in its time zone. Of a Config that
// is valid there is no error, unless the machine's zones have changed since.
func (c Config) Calendar() (schedule.Schedule, error) {
	windows, err := c.windows()
	if err != nil {
		return schedule.Schedule{}, err
	}
	all := schedule.Schedule{Windows: windows, MinRemaining: time.Duration(c.Schedule.MinRemaining)}
	for i, f := range c.Freezes {
		zone, err := c.zone(f.TimeZone)
		if err != nil {
			return schedule.Schedule{}, fmt.Errorf("freeze[%d]: %w", i+1, err)
		}
		freeze, err := schedule.ParseFreeze(f.From, f.Until, f.Reason, zone)
		if err != nil {
			return schedule.Schedule{}, fmt.Errorf("freeze[%d]: %w", i+1, err)
		}
		all.Freezes = append(all.Freezes, freeze)
	}
	return all, nil
}

func (c Config) windows() ([]schedule.Window, error) {
	var all []schedule.Window
	for i, w := range c.Windows {
		zone, err := c.zone(w.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("window[%d]: %w", i+1, err)
		}
		window, err := schedule.ParseWindow(w.Days, w.Start, w.End, zone)
		if err != nil {
			return nil, fmt.Errorf("window[%d]: %w", i+1, err)
		}
		all = append(all, window)
	}
	return all, nil
}

// zone is the named one or, without a name, that of the schedule.
func (c Config) zone(name string) (*time.Location, error) {
	if name = cmp.Or(name, c.Schedule.TimeZone); name == localName {
		return local(localFile), nil
	}
	return time.LoadLocation(name)
}

const (
	localName = "Local"
	localFile = "/etc/localtime"
)

// local is the zone of this machine as the package time finds it, but as it is
// now: that one keeps what it has found first for as long as the process runs.
func local(file string) *time.Location {
	if _, set := os.LookupEnv("TZ"); set {
		return time.Local // which nobody can change while we run
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return time.UTC
	}
	zone, err := time.LoadLocationFromTZData(localName, data)
	if err != nil {
		return time.UTC
	}
	return zone
}
