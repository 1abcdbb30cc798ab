package main

import (
	"reflect"
	"strings"
	"testing"
)

// Only what cannot have been written to may be dropped.
func TestProgramPages(t *testing.T) {
	smaps := `00400000-01a00000 r-xp 00000000 fe:00 12                 /usr/bin/kured
Size:              22528 kB
Rss:               16384 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
01a00000-02d00000 r--p 01600000 fe:00 12                 /usr/bin/kured
Anonymous:             0 kB
02d00000-02e00000 r--p 02900000 fe:00 12                 /usr/bin/kured
Anonymous:            64 kB
02e00000-02f00000 rw-p 02a00000 fe:00 12                 /usr/bin/kured
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 13         /usr/lib/other/usr/bin/kured2
Anonymous:             0 kB
7f0000200000-7f0000300000 r--p 00000000 fe:00 14         /elsewhere/usr/bin/kured
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          4096 kB
`
	got, err := programPages(strings.NewReader(smaps), "/usr/bin/kured")
	if err != nil {
		t.Fatal(err)
	}
	if want := []area{{0x400000, 0x1a00000}, {0x1a00000, 0x2d00000}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if _, err := programPages(strings.NewReader("zz-01 r-xp 0 0 0 /usr/bin/kured\n"), "/usr/bin/kured"); err == nil {
		t.Error("nonsense is no error")
	}
	// The test program itself goes on after it.
	t.Cleanup(work)
	if err := rest(); err != nil {
		t.Error(err)
	}
}
