package path

// A search finds a number by questions of the kind "is it at least m?", each of which
// is a connect. It asks first where the number is likely to be: so it is found in fewer
// questions than halving takes, and rarely in more.
type search struct {
	Span
	weight func(int) int // how likely a number is, in proportion to the others; at least 1
	left   int           // questions that may be asked still
	sure   bool          // rather ask more than not find it, as long as halving would find it
}

// next returns the m of the next question: as likely yes as no. ok is false if the number is
// found, or no question is left.
func (s *search) next() (m int, ok bool) {
	if s.Min >= s.Max || s.left <= 0 {
		return 0, false
	}
	total := 0
	for n := s.Min; n <= s.Max; n++ {
		total += s.weight(n)
	}
	m, below := s.Min+1, s.weight(s.Min)
	for m < s.Max {
		w := s.weight(m)
		// One more below, if that comes closer to a half.
		if 2*below+w > total {
			break
		}
		below += w
		m++
	}
	if half := 1 << (s.left - 1); s.sure && s.Max-s.Min < 2*half {
		m = min(max(m, s.Max+1-half), s.Min+half)
	}
	return m, true
}

// learn notes the answer to a question.
func (s *search) learn(m int, atLeast bool) {
	s.left--
	if atLeast {
		s.Min = max(s.Min, m)
	} else {
		s.Max = min(s.Max, m-1)
	}
}

// ttlWeight says how likely the TTL of an answer is: most senders are few hops away and begin with
// 64, fewer with 128 or 255, and hardly any packet takes more than 32 hops. guesses are what it
// probably is.
func ttlWeight(guesses ...int) func(int) int {
	return func(ttl int) int {
		w := 1
		if hops := distance(ttl); hops <= mostLikelyHops {
			w = 24
		}
		for _, g := range guesses {
			if ttl == g {
				w += guessed
			}
		}
		return w
	}
}

// hopWeight is the same for the number of hops to somebody.
func hopWeight(guesses ...int) func(int) int {
	return func(hops int) int {
		w := 1
		if hops <= mostLikelyHops {
			w = 6
		}
		for _, g := range guesses {
			if hops == g {
				w += guessed / 8
			}
		}
		return w
	}
}

const (
	mostLikelyHops = 32
	guessed        = 1600
	mostTTL        = 255

	ttlQuestions = 8  // connects that a search for the TTL of an answer makes
	hopQuestions = 10 // connects that a search for a number of hops makes
)
