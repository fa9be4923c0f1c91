package connect

// passage says what the kernel knows of the way of a silent dial's SYNs out of this
// machine; l.info is of its socket. Without a repetition it knows nothing.
//
// tcpi_retransmits counts the times that the kernel found it was time to repeat the SYN,
// tcpi_total_retrans how often it went about it, and tcpi_retrans is 1 iff the last one
// got as far as the interface: a packet that a firewall of ours drops is an error there.
// So the silence of others is told from that of our own firewall row by row.
func (l *loop) passage(s *slot) passage {
	switch {
	case l.info.Retransmits == 0 || l.info.Retrans > 0:
		return passageUnsaid
	case l.info.Total_retrans > 0:
		return passageDropped
	case l.env.onLink(s.target.Addr):
		return passageUnsaid // it waits for ARP or ND of the target itself
	}
	return passageHeld
}
