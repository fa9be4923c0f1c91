package reflect

// A mark is what the SYN of an auditor's session has that no other has: a
// router or NAT passes it on, a proxy's own connection to the far end lacks it.
// The zero mark is none.
type mark struct {
	ttl   int // or hop limit, as sent
	scale int // window scale (RFC 7323, 2)
}

// mostHops is the longest way that is believed.
const mostHops = 60

// survived reports which of the two is as it was sent.
func (m mark) survived(s *SYN) (ttl, scale bool) {
	return int(s.TTL) <= m.ttl && m.ttl-int(s.TTL) <= mostHops, s.Scale == m.scale
}
