// Package plan holds the nouns of a stack and the one decision made about them: Diff compares what a
// stack's files want with what Incus has and answers with a Plan, the ordered list of calls that lead from
// one to the other.
//
// The package is pure: no I/O, no clock, no logger, no randomness. The same input gives the same plan, byte
// for byte, so a plan's text is at once the test, the log line, the output of "ic-agent plan" and the answer
// to "why". It imports nothing of this module.
//
// The way from a file to a plan:
//
//	compose files ── internal/compose ──▶ Project     what the user wrote, in our nouns
//	Project + images + addresses ──────▶ Desired     every Incus key and device spelled out (Render)
//	Desired + Observed + Ledger ───────▶ Plan        one Incus call a step, each with its cause (Diff)
package plan
