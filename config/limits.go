package config

import (
	"errors"
	"fmt"
)

// What a file may have at most. A check of all of it takes a few seconds.
const (
	maxTargets    = 50_000
	maxRules      = 10_000
	maxAllowRules = 1000
	maxList       = 4096 // elements of a list of a rule
)

func tooMany(line int, key string, most int, hint string) error {
	return fmt.Errorf("line %d: %s[%d]: it is one more than %d\nhint: %s", line, key, most, most, hint)
}

// maxFaults is how many faults, and how many warnings, of a file are named.
const maxFaults = 50

// fewer returns the first faults of many.
func fewer(err error) error {
	all := flatten(err, nil)
	if len(all) <= maxFaults {
		return err
	}
	return errors.Join(append(all[:maxFaults:maxFaults], fmt.Errorf("and %d faults more", len(all)-maxFaults))...)
}

// flatten appends the faults that were joined in an error.
func flatten(err error, to []error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // only this layer is taken apart
	if !ok {
		return append(to, err)
	}
	for _, one := range joined.Unwrap() {
		to = flatten(one, to)
	}
	return to
}

// fewWarnings returns the first of many.
func fewWarnings(all []string) []string {
	if len(all) <= maxFaults {
		return all
	}
	return append(all[:maxFaults:maxFaults], fmt.Sprintf("and %d warnings more", len(all)-maxFaults))
}
