package connect

import (
	"encoding/binary"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	tableTrust = 100 * time.Millisecond // until the table is looked at again
	tableFull  = 10                     // one place in so many is left to others

	// Attributes of RTM_NEWNEIGHTBL (linux/neighbour.h).
	ndtaThresh3 = 4
	ndtaConfig  = 5
)

// A neighborTable is how full the kernel's neighbour table of a family is. It is the
// whole machine's, and an entry that answered keeps its place for 15 to 45 seconds: so
// how many new ones there may be is not ours to reckon.
type neighborTable struct {
	family  byte // 0: it cannot be asked
	read    time.Time
	entries int // when it was read, and what was admitted since
	most    int // gc_thresh3
	fresh   bool
}

// room reports whether there is place for one more entry, and counts it. A full table
// gets one a look all the same: the kernel makes place only when it is asked for some.
func (n *neighborTable) room(now time.Time) bool {
	if n.family == 0 {
		return true
	}
	if now.Sub(n.read) >= tableTrust {
		entries, most, err := readNeighborTable(n.family)
		if err != nil || most == 0 {
			n.family = 0
			return true
		}
		n.read, n.entries, n.most, n.fresh = now, entries, most, true
	}
	if n.full() && !n.fresh {
		return false
	}
	n.entries, n.fresh = n.entries+1, false
	return true
}

// full reports whether there was no place when the table was read last.
func (n *neighborTable) full() bool { return n.family != 0 && n.entries >= n.most-n.most/tableFull }

// pressed reports whether it was so full that the kernel looked for entries to give up.
func (n *neighborTable) pressed() bool { return n.family != 0 && n.entries >= n.most/2 }

// readNeighborTable returns how many entries the neighbour table of a family has, and
// may have.
func readNeighborTable(family byte) (entries, most int, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP)
	req.AddData(&nl.RtGenMsg{RtGenmsg: unix.RtGenmsg{Family: family}})
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGHTBL)
	for _, b := range answers {
		const header = 4 // struct ndtmsg
		if len(b) < header || b[0] != family {
			continue
		}
		attrs, err := nl.ParseRouteAttr(b[header:])
		if err != nil {
			return 0, 0, err
		}
		for _, a := range attrs {
			switch {
			case a.Attr.Type == ndtaThresh3 && len(a.Value) >= 4:
				most = int(binary.NativeEndian.Uint32(a.Value))
			case a.Attr.Type == ndtaConfig && len(a.Value) >= 8: // key length and entry size, 2 bytes each, then this
				entries = int(binary.NativeEndian.Uint32(a.Value[4:]))
			}
		}
	}
	return entries, most, err
}
