package path

import "testing"

// ask plays a search for a number and returns how many questions it took.
func ask(s *search, number int) (questions int) {
	for {
		m, ok := s.next()
		if !ok {
			return questions
		}
		s.learn(m, number >= m)
		questions++
	}
}

// TestSearchFindsTTLs: whatever the TTL and the guess, eight questions find it, and three if
// the guess is right.
func TestSearchFindsTTLs(t *testing.T) {
	most, mostGuessed, inexact := 0, 0, 0
	for ttl := 1; ttl <= mostTTL; ttl++ {
		for i := range 52 {
			guess := 5 * i
			if i == 51 {
				guess = ttl
			}
			s := &search{Span: Span{1, mostTTL}, weight: ttlWeight(guess), left: ttlQuestions}
			n := ask(s, ttl)
			most = max(most, n)
			if guess == ttl {
				mostGuessed = max(mostGuessed, n)
			}
			if ttl < s.Min || ttl > s.Max {
				t.Fatalf("TTL %d, guess %d: found %v", ttl, guess, s.Span)
			}
			if !s.exact() {
				inexact++
				if distance(ttl) <= mostLikelyHops {
					t.Errorf("TTL %d (%d hops), guess %d: found %v", ttl, distance(ttl), guess, s.Span)
				}
			}
		}
	}
	t.Logf("%d of %d are not exact", inexact, 255*52)
	if most > ttlQuestions || mostGuessed > 3 {
		t.Errorf("%d questions, %d if the guess is right, want %d and 3 at most", most, mostGuessed, ttlQuestions)
	}
}

func TestSearchFindsHops(t *testing.T) {
	for hops := 1; hops <= mostHops; hops++ {
		for guess := 0; guess <= mostHops; guess++ {
			s := &search{Span: Span{1, mostHops}, weight: hopWeight(guess, guess+1), left: hopQuestions - 2, sure: true}
			n := ask(s, hops)
			if s.Span != (Span{hops, hops}) {
				t.Errorf("%d hops, guess %d: found %v", hops, guess, s.Span)
			}
			if (hops == guess || hops == guess+1) && n > 3 {
				t.Errorf("%d hops, guess %d: %d questions, want 3 at most", hops, guess, n)
			}
		}
	}
}
