package outgoing

import (
	"net"
	"testing"
)

// A datagram to this machine itself is sent by the loopback interface.
func TestADatagramIsCounted(t *testing.T) {
	before := Read(false)
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	after := Read(true)
	if before.Loopback < 0 || after.Loopback <= before.Loopback {
		t.Errorf("by the loopback interface: %d, then %d", before.Loopback, after.Loopback)
	}
	if before.All >= 0 && after.All <= before.All { // -1 before Linux 6.7
		t.Errorf("in all: %d, then %d", before.All, after.All)
	}
}
