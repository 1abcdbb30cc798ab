package node

import "testing"

func TestNormalizeBootID(t *testing.T) {
	const want = "0123456789abcdef0123456789abcdef"
	for _, s := range []string{
		want,
		"01234567-89ab-cdef-0123-456789abcdef",
		"01234567-89AB-CDEF-0123-456789ABCDEF\n",
		"  " + want + " ",
	} {
		if got, err := NormalizeBootID(s); got != want || err != nil {
			t.Errorf("NormalizeBootID(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "%b", want[:31], want + "0", want[:31] + "g",
		"0123456789ab-cdef-0123-456789abcdef0123-",
		"00000000-0000-0000-0000-000000000000",
		"-1234567-89ab-cdef-0123-456789abcdef",
	} {
		if got, err := NormalizeBootID(s); err == nil {
			t.Errorf("NormalizeBootID(%q) = %q, want an error", s, got)
		}
	}
}
