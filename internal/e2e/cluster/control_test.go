package cluster

import (
	"maps"
	"testing"
)

func TestRecap(t *testing.T) {
	got := recap(`TASK [Say] ****
ok: [node-a] => {"msg": "PLAY RECAP is below"}

PLAY RECAP *********************************************************************
node-a                     : ok=12   changed=3    unreachable=0    failed=1    skipped=8    rescued=0    ignored=0   
web-7.example              : ok=0    changed=0    unreachable=1    failed=0    skipped=0    rescued=0    ignored=0   

`)
	want := map[string]map[string]int{
		"node-a":        {"ok": 12, "changed": 3, "unreachable": 0, "failed": 1, "skipped": 8, "rescued": 0, "ignored": 0},
		"web-7.example": {"ok": 0, "changed": 0, "unreachable": 1, "failed": 0, "skipped": 0, "rescued": 0, "ignored": 0},
	}
	if !maps.EqualFunc(got, want, maps.Equal[map[string]int]) {
		t.Errorf("got %v, want %v", got, want)
	}
	if sum := (Play{Hosts: got}).Sum("changed"); sum != 3 {
		t.Errorf("%d changes", sum)
	}
	if got := recap("ERROR! the playbook could not be found"); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
