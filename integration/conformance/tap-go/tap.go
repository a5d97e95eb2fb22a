// Package tap writes test results in the Test Anything Protocol, version 13. It stands in for
// github.com/mndrix/tap-go, which no distribution packages: as much of it as runtime-tools calls.
package tap

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// T counts the results of one program.
type T struct {
	count *int
	todo  string
}

// New returns a T that writes to standard output.
func New() *T { return &T{count: new(int)} }

// Header opens the output; a plan of no tests is left to AutoPlan.
func (t *T) Header(tests int) {
	fmt.Println("TAP version 13")
	if tests > 0 {
		fmt.Printf("1..%d\n", tests)
	}
}

// AutoPlan writes the plan for the results there were.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok writes one result.
func (t *T) Ok(passed bool, description string) {
	word := "ok"
	if !passed {
		word = "not ok"
	}
	*t.count++
	fmt.Printf("%s %d%s - %s\n", word, *t.count, t.todo, description)
}

// Pass writes a result that is good.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail writes a result that is bad.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip writes results that were not sought.
func (t *T) Skip(tests int, why string) {
	for ; tests > 0; tests-- {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, why)
	}
}

// Todo returns a T for tests that are expected to fail.
func (t *T) Todo() *T { return &T{count: t.count, todo: " # TODO"} }

// Diagnostic writes a comment.
func (t *T) Diagnostic(message string) {
	fmt.Println("# " + strings.ReplaceAll(message, "\n", "\n# "))
}

// Diagnosticf writes a formatted comment.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML writes a value below a result, as JSON, which is YAML.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}
