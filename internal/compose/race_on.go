//go:build race

package compose

const (
	// raceDetector tells that this build's shadow memory needs far more address space than any limit allows.
	raceDetector = true
	// slowdown is what this build's CPU time is multiplied by.
	slowdown = 3
)
