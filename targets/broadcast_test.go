package targets

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestBroadcastAddressesAreLeftOut: the broadcast address of a network of this
// machine is subtracted from a range, is a row behind a name, and is refused alone.
func TestBroadcastAddressesAreLeftOut(t *testing.T) {
	cast, other := netip.MustParseAddr("10.30.0.255"), netip.MustParseAddr("192.0.2.255")
	cfg := Config{Ports: []Port{{Number: 25}, {Number: 587}}, Broadcast: []netip.Addr{cast, other, cast}}
	b := NewBuilder(cfg)
	for _, spec := range []string{"10.30.0.0/24", "192.0.2.0/24", "10.30.1.255"} {
		err := b.Add(spec)
		if _, refused := errors.AsType[*RefusedError](err); err != nil && !(refused && spec == "192.0.2.0/24") {
			t.Fatal(err)
		}
	}
	p, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	if p.Len() != 257*2 || p.Probed() != 256*2 || p.Addresses() != 256 {
		t.Errorf("%d endpoints, %d to be probed at %d addresses, want 514, 512, 256", p.Len(), p.Probed(), p.Addresses())
	}
	want := []Subtraction{{What: broadcastName, Count: 2, Addresses: 1}}
	if !slices.Equal(p.Subtracted(), want) {
		t.Errorf("subtracted %+v, want %+v", p.Subtracted(), want)
	}
	for addr, want := range map[netip.Addr]bool{cast: false, netip.MustParseAddr("::ffff:10.30.0.255"): false, cast.Prev(): true, netip.MustParseAddr("10.30.1.255"): true} {
		if ok, _ := p.Permit(addr, true); ok != want {
			t.Errorf("%s may be contacted: %v, want %v", addr, ok, want)
		}
	}
	for what, err := range map[string]error{
		"typed":     NewBuilder(cfg).Add(cast.String()),
		"in a list": NewBuilder(cfg).ReadFile("hosts.txt", strings.NewReader(cast.String())),
	} {
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok || !strings.Contains(refused.Reason, "broadcast address") {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
}
