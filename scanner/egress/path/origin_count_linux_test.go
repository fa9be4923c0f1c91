package path

import (
	"net"
	"testing"
)

func TestCountTellsWhoseResetItIs(t *testing.T) {
	before := count{loopback: 10, all: 100}
	for _, c := range []struct {
		name  string
		after count
		want  Fact
	}{
		{"only the SYN", count{10, 101}, No},
		{"only the reset, to ourselves", count{11, 101}, Yes},
		{"both, or somebody else too", count{11, 102}, Unseen},
		{"somebody else by the loopback interface", count{15, 105}, Yes},
		{"before Linux 6.7", count{11, -1}, Unseen},
		{"before Linux 6.7, and nothing by the loopback interface", count{10, -1}, No},
		{"nothing is known", count{-1, -1}, Unseen},
	} {
		if got := before.own(c.after); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestCountCounts: what is sent over the loopback interface is counted there and among all packets.
func TestCountCounts(t *testing.T) {
	before := countSent(false)
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	after := countSent(true)
	if before.loopback < 0 || after.loopback <= before.loopback || before.all >= 0 && after.all <= before.all {
		t.Errorf("%+v, and then %+v", before, after)
	}
}
