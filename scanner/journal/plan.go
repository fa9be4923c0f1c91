package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/smtpsweep/smtpsweep/targets"
)

// Plan reads the plan from the journal's plan records. cfg supplies what the
// records do not hold: exclusions and address rules. If the plan is not the
// one that the run record names, the error wraps ErrPlan. A journal of a run
// without a plan has a nil one.
func (r *Reader) Plan(cfg targets.Config) (*targets.Plan, error) {
	if r.run.PlanHash == "" {
		return nil, nil
	}
	plan, err := targets.ReadPlan(cfg, r.planRecords())
	var bad *DamageError
	if errors.As(err, &bad) {
		return nil, err
	}
	if err != nil && r.rowsAlone() {
		return nil, fmt.Errorf("journal %s: %w: it has the rows of a report alone, and no run goes on from them", r.path, ErrPlan)
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w (%w); %s", r.path, ErrPlan, err, planHint)
	}
	if got := plan.Hash(); got != r.run.PlanHash {
		return nil, fmt.Errorf("journal %s: %w: run record %s, plan records %s; %s",
			r.path, ErrPlan, r.run.PlanHash, got, planHint)
	}
	return plan, nil
}

// rowsAlone reports whether a journal has rows and no plan before them: a report
// in JSON Lines is such, and can be reported again.
func (r *Reader) rowsAlone() bool {
	for rec, err := range r.Records() {
		if err != nil || rec.Type == "plan" {
			return false
		}
		if rec.Type == "result" {
			return true
		}
	}
	return false
}

// planHint says what to do about a plan that is not whole.
const planHint = "if the run was killed while it began, delete the file and start again"

// planRecords yields the plan records, which come before answers and results.
func (r *Reader) planRecords() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for rec, err := range r.Records() {
			switch {
			case err != nil:
				yield(nil, err)
				return
			case rec.Type == "plan":
				if !yield(rec.Line, nil) {
					return
				}
			case rec.Type == "answer", rec.Type == "result", rec.Type == "silent", rec.Type == "end":
				return
			}
		}
	}
}

// shard returns the run's part of the plan.
func (r *Reader) shard() (targets.Shard, error) {
	if r.run.Shard == "" {
		return targets.Shard{}, nil
	}
	shard, err := targets.ParseShard(r.run.Shard)
	return shard, describe(r.path, err)
}

// answer reads an answer record.
func (r *Reader) answer(rec Record) (a targets.Answer, err error) {
	if err = json.Unmarshal(rec.Line, &a); err != nil {
		err = r.misread(rec, err)
	}
	return a, err
}

// misread says that a record with a good checksum does not mean anything.
func (r *Reader) misread(rec Record, err error) error {
	return &DamageError{r.path, rec.Offset, rec.Number, err.Error(), err}
}
