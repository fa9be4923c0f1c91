package path

import "time"

// A router that is Linux answers six SYNs of ours that expire there, and then one a second
// (icmp(7), icmp_ratelimit); two are left for ICMP rejections.
const (
	burst = 4
	every = time.Second
)

// A pacer says when a SYN may be sent that expires at a hop. The zero pacer has sent none.
type pacer struct {
	due [mostHops + 1]time.Time // by TTL: when its bucket is full again
}

// wait returns how long it is until a SYN may be sent; 0 is now, and then it counts as sent.
func (p *pacer) wait(ttl int, now time.Time) time.Duration {
	due := p.due[ttl]
	if due.Before(now) {
		due = now
	}
	if ahead := due.Sub(now) - (burst-1)*every; ahead > 0 {
		return ahead
	}
	p.due[ttl] = due.Add(every)
	return 0
}
