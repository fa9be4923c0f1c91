package connect

import (
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

const (
	stopRetry   = time.Second // until a dial is repeated of which no SYN left this machine
	mostCrowded = 5           // dials of a job for whose SYNs our own queues had no place
)

// passage says what the kernel knows of the way of a silent dial's SYNs out of this
// machine; l.info is of its socket. Without a repetition it knows nothing.
//
// tcpi_retransmits counts the times that the kernel found it was time to repeat the SYN,
// tcpi_total_retrans how often it went about it, and tcpi_retrans is 1 iff the last one
// got as far as the interface: a packet that a firewall of ours drops is an error there.
// So the silence of others is told from that of our own firewall row by row.
//
// When a queue of ours was full, the kernel is in more of a hurry: see hurries.
func (l *loop) passage(s *slot) passage {
	switch {
	case l.sockets.guarded(s.fd) && guardDrops(int(s.fd)) > 0:
		return passageRefused
	case !l.env.onLink(s.target.Addr) && l.env.noWay(s.target.Addr, l.now):
		return passageHeld
	case l.info.Retransmits == 0 || l.info.Retrans > 0:
		return passageUnsaid
	case l.info.Total_retrans > 0 && l.hurries(s):
		return passageCrowded
	case l.info.Total_retrans > 0:
		return passageDropped
	case l.env.onLink(s.target.Addr):
		return passageUnsaid // it waits for ARP or ND of the target itself
	}
	return passageHeld
}

// judgeSilence fills in what is known about a dial that nothing answered.
func (l *loop) judgeSilence(s *slot, e *evidence) {
	e.neighbor, e.passage = l.neighbor(s, false), l.passage(s)
	if e.neighbor != neighborMissing {
		return
	}
	switch {
	case e.passage == passageUnsaid && l.info.Retransmits > 0:
		// The last SYN got as far as an entry. The kernel has forgotten it since, for
		// want of place: that happens to those that failed.
		e.neighbor = neighborUnsaid
		if l.now.Sub(l.base)-time.Duration(s.since) >= neighborFails {
			e.neighbor = neighborFailed
		}
	case l.env.neighbors(s.target).pressed():
		e.passage = passageCrowded
	}
}

// doubts reports whether the dial of a slot whose SYNs did not leave this machine is to be
// repeated: it may have been for a moment. Where a repeated dial has been stopped
// before there is no doubt.
func (l *loop) doubts(s *slot, p passage) bool {
	switch {
	case p == passageCrowded:
		return s.dials < mostCrowded
	case p == passageRefused && l.info.Retrans > 0: // though a SYN left
		return s.learned == nil
	}
	return s.dials == 0 && !l.networks.stopped(s.target)
}

// repeat puts back a job of whose dial no SYN left, or that this machine seems to have refused.
func (l *loop) repeat(i int32, s *slot, p passage) {
	job := s.job()
	job.Dials++
	if p == passageRefused {
		job.Reason = scanner.LocalError
	}
	l.drop(i, s)
	l.retry(job, stopRetry)
}

// suspect reports whether an earlier dial of a slot's job dropped a reset. It was one of this
// machine, or of no connection. The second dial, without a guard, tells: it is refused,
// or it is not.
func (s *slot) suspect() bool { return s.learned != nil && !s.learned.ICMP.From.IsValid() }
