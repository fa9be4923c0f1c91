package lab

import "testing"

func TestCountFollowsTheTier(t *testing.T) {
	for tier, want := range map[string]int{"": 1, "require": 2, "long": 3, "something else": 1} {
		t.Setenv(requireEnv, tier)
		if got := Count(t, 1, 2, 3); got != want {
			t.Errorf("%s=%q counts %d, want %d", requireEnv, tier, got, want)
		}
	}
}
