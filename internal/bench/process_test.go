package main

import (
	"net"
	"os"
	"testing"
	"time"
)

// The readers are tried on this process, of which something is known.
func TestReadingAProcess(t *testing.T) {
	pid := os.Getpid()
	resident, anonymous, err := memory(pid)
	if err != nil || anonymous < mebibyte || resident < anonymous {
		t.Errorf("memory: %d resident, %d anonymous, %v", resident, anonymous, err)
	}

	before, err := connections(pid)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := connections(pid); err != nil || n != before+1 {
		t.Errorf("with one more socket: %d, before %d, %v", n, before, err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := connections(pid); err != nil || n != before {
		t.Errorf("after it was closed: %d, before %d, %v", n, before, err)
	}

	first, err := sleeps(pid)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		time.Sleep(time.Millisecond) // makes a thread sleep
	}
	if then, err := sleeps(pid); err != nil || then <= first {
		t.Errorf("sleeps: %d, then %d, %v", first, then, err)
	}
}

func TestReadingAProcessThatIsGone(t *testing.T) {
	const nobody = 1 << 30
	if _, _, err := memory(nobody); err == nil {
		t.Error("memory")
	}
	if _, err := sleeps(nobody); err == nil {
		t.Error("sleeps")
	}
	if _, err := connections(nobody); err == nil {
		t.Error("connections")
	}
}
