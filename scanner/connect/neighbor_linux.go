package connect

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// neighborFails is how long ARP or ND takes to fail: three requests, a second
// apart (mcast_solicit, retrans_time_ms).
const neighborFails = 3 * time.Second

// neighborOf says what the kernel's neighbour table knows of an on-link address that
// was dialled for some time and did not answer. Its ICMP message "host unreachable" is not
// enough, because a firewall of ours may send the same; nor is it always sent (see tooSoon).
// message says that it was.
func (s *surroundings) neighborOf(a netip.Addr, waited time.Duration, message bool) neighbor {
	state, err := s.neighborState(a)
	return judgeNeighbor(state, err, waited, message)
}

func judgeNeighbor(state uint16, err error, waited time.Duration, message bool) neighbor {
	longEnough := waited >= neighborFails
	switch {
	case err == unix.ENOENT && message && longEnough:
		return neighborFailed // and is forgotten already, as happens when the table is short
	case err == unix.ENOENT:
		return neighborMissing
	case err != nil && message: // before Linux 5.0: it cannot be asked about one address
		return neighborFailed
	case err != nil:
		return neighborUnsaid
	case state == netlink.NUD_FAILED, state == netlink.NUD_INCOMPLETE && (message || longEnough):
		return neighborFailed // incomplete: being asked for again
	}
	return neighborUnsaid
}

// neighborState returns the state of an on-link address in the neighbour table (NUD_...).
func (s *surroundings) neighborState(a netip.Addr) (state uint16, err error) {
	err = unix.ENOENT
	for _, link := range s.linksOf(a) {
		if state, err = readNeighbor(a.WithZone(""), link); err != unix.ENOENT {
			break
		}
	}
	return state, err
}

// linksOf returns the interfaces that may lead to an on-link address.
func (s *surroundings) linksOf(a netip.Addr) []int {
	if a.Zone() != "" {
		return []int{int(zoneID(a.Zone()))}
	}
	if p, ok := s.longest(a); ok {
		return s.via[p]
	}
	return nil
}

// readNeighbor asks the kernel for one entry of the neighbour table.
func readNeighbor(a netip.Addr, link int) (state uint16, err error) {
	msg := netlink.Ndmsg{Family: unix.AF_INET6, Index: uint32(link)}
	if a.Is4() {
		msg.Family = unix.AF_INET
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&msg)
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, a.AsSlice()))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if err != nil {
		return 0, err
	}
	for _, b := range answers {
		if entry, err := netlink.NeighDeserialize(b); err == nil {
			return uint16(entry.State), nil
		}
	}
	return 0, unix.ENOENT
}
